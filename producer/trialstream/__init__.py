"""Log experiments as a stream of events.

import trialstream as ts

async with ts.connect() as protocol:
    trial = await protocol.new_trial(ts.Trial(name="mlp", parameters={"lr": 0.1}), auto_increment=True)
    await protocol.log_trial_metrics(trial, step=1, loss=0.5)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trialstream_schemas.errors import (
    ChronoError,
    CommitTimeout,
    ConfigError,
    Fenced,
    InvalidType,
    InvalidValue,
    ItemNotFound,
    KafkaUnavailable,
    LogMismatch,
    MongoUnavailable,
    Offline,
    ProjectionBehind,
    ProjectionIsReadOnly,
    ProtocolClosed,
    QueryError,
    SchemaError,
    ServerUnavailable,
    SpoolBusy,
    SpoolError,
    SpoolFull,
    TrialStreamError,
    UnknownSchema,
)
from trialstream_schemas.model.aggregators import (
    Aggregator,
    AggregatorSpec,
    BestAggregator,
    RingAggregator,
    StatAggregator,
    TimeSeriesAggregator,
    ValueAggregator,
    timeseries_aggregator,
    value_aggregator,
)
from trialstream_schemas.model.attempts import Attempt, Participant, TrialAttempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialError, TrialGroup

from trialstream.config import Config
from trialstream.connect import connect
from trialstream.protocol import (
    BandKey,
    By,
    Callback,
    CommitLevel,
    MetricBands,
    MetricHistory,
    Protocol,
    Query,
    Reduce,
    Sort,
    Step,
)
from trialstream.reading.paths import path
from trialstream.statistics import Statistics
from trialstream.updates import Update, update

if TYPE_CHECKING:
    from trialstream.kafka.protocol import KafkaProtocol
    from trialstream.reading.read_only import ReadOnlyProtocol

__all__ = [
    "Aggregator",
    "AggregatorSpec",
    "Attempt",
    "BandKey",
    "BestAggregator",
    "By",
    "Callback",
    "ChronoError",
    "CommitLevel",
    "CommitTimeout",
    "Config",
    "ConfigError",
    "CustomStatus",
    "Fenced",
    "InvalidType",
    "InvalidValue",
    "ItemNotFound",
    "KafkaProtocol",
    "KafkaUnavailable",
    "LogMismatch",
    "MetricBands",
    "MetricHistory",
    "MongoUnavailable",
    "Offline",
    "Participant",
    "Project",
    "ProjectionBehind",
    "ProjectionIsReadOnly",
    "Protocol",
    "ProtocolClosed",
    "Query",
    "QueryError",
    "ReadOnlyProtocol",
    "Reduce",
    "RingAggregator",
    "SchemaError",
    "ServerUnavailable",
    "Sort",
    "SpoolBusy",
    "SpoolError",
    "SpoolFull",
    "StatAggregator",
    "Statistics",
    "Status",
    "Step",
    "TimeSeriesAggregator",
    "Trial",
    "TrialAttempt",
    "TrialError",
    "TrialGroup",
    "TrialStreamError",
    "UnknownSchema",
    "Update",
    "ValueAggregator",
    "connect",
    "path",
    "timeseries_aggregator",
    "update",
    "value_aggregator",
]

# The modules of the names that are imported at their first use, since they need Kafka's and MongoDB's clients.
_HEAVY = {"KafkaProtocol": "trialstream.kafka.protocol", "ReadOnlyProtocol": "trialstream.reading.read_only"}


if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HEAVY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(import_module(_HEAVY[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
