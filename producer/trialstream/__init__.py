"""Log experiments as a stream of events.

import trialstream as ts

with ts.track("mlp", parameters={"lr": 0.1}) as t:  # or `async with`
    t.log({"loss": 0.5}, step=1)

async with ts.connect() as protocol:  # the protocol beneath, for all else
    trials = await protocol.fetch_trials({"name": "mlp"})
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
    QueryTimeout,
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
from trialstream.log_lines import bound_messages
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
    from trialstream import events
    from trialstream.integrations.autologging import autolog
    from trialstream.kafka.protocol import KafkaProtocol
    from trialstream.reading.read_only import ReadOnlyProtocol
    from trialstream.streaming.changes import TrialChange, TrialChanges
    from trialstream.streaming.items import LogEvent, StreamEvent
    from trialstream.streaming.opening import stream
    from trialstream.streaming.positions import BEGIN, NOW, Position, Since
    from trialstream.streaming.replaying import replay
    from trialstream.streaming.rows import Row, Rows
    from trialstream.streaming.stream import Stream
    from trialstream.streaming.sync_stream import SyncStream
    from trialstream.streaming.watch import SyncWatch, Watch, watch
    from trialstream.tracking import (
        AsyncTracker,
        Handle,
        Health,
        SyncTracker,
        Terminated,
        Tracker,
        chrono,
        current,
        instrument,
        log,
        log_arguments,
        log_metadata,
        note,
        tag,
        track,
    )

__all__ = [
    "BEGIN",
    "NOW",
    "Aggregator",
    "AggregatorSpec",
    "AsyncTracker",
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
    "Handle",
    "Health",
    "InvalidType",
    "InvalidValue",
    "ItemNotFound",
    "KafkaProtocol",
    "KafkaUnavailable",
    "LogEvent",
    "LogMismatch",
    "MetricBands",
    "MetricHistory",
    "MongoUnavailable",
    "Offline",
    "Participant",
    "Position",
    "Project",
    "ProjectionBehind",
    "ProjectionIsReadOnly",
    "Protocol",
    "ProtocolClosed",
    "Query",
    "QueryError",
    "QueryTimeout",
    "ReadOnlyProtocol",
    "Reduce",
    "RingAggregator",
    "Row",
    "Rows",
    "SchemaError",
    "ServerUnavailable",
    "Since",
    "Sort",
    "SpoolBusy",
    "SpoolError",
    "SpoolFull",
    "StatAggregator",
    "Statistics",
    "Status",
    "Step",
    "Stream",
    "StreamEvent",
    "SyncStream",
    "SyncTracker",
    "SyncWatch",
    "Terminated",
    "TimeSeriesAggregator",
    "Tracker",
    "Trial",
    "TrialAttempt",
    "TrialChange",
    "TrialChanges",
    "TrialError",
    "TrialGroup",
    "TrialStreamError",
    "UnknownSchema",
    "Update",
    "ValueAggregator",
    "Watch",
    "autolog",
    "chrono",
    "connect",
    "current",
    "events",
    "instrument",
    "log",
    "log_arguments",
    "log_metadata",
    "note",
    "path",
    "replay",
    "stream",
    "tag",
    "timeseries_aggregator",
    "track",
    "update",
    "value_aggregator",
    "watch",
]

bound_messages()

# The modules of the names that are imported at their first use: they, or what most programs use with them, need Kafka's
# and MongoDB's clients.
_LAZY = {
    "BEGIN": "trialstream.streaming.positions",
    "KafkaProtocol": "trialstream.kafka.protocol",
    "LogEvent": "trialstream.streaming.items",
    "NOW": "trialstream.streaming.positions",
    "Position": "trialstream.streaming.positions",
    "ReadOnlyProtocol": "trialstream.reading.read_only",
    "Row": "trialstream.streaming.rows",
    "Rows": "trialstream.streaming.rows",
    "Since": "trialstream.streaming.positions",
    "Stream": "trialstream.streaming.stream",
    "StreamEvent": "trialstream.streaming.items",
    "SyncStream": "trialstream.streaming.sync_stream",
    "SyncWatch": "trialstream.streaming.watch",
    "TrialChange": "trialstream.streaming.changes",
    "TrialChanges": "trialstream.streaming.changes",
    "Watch": "trialstream.streaming.watch",
    "autolog": "trialstream.integrations.autologging",
    "events": "trialstream.events",
    "replay": "trialstream.streaming.replaying",
    "stream": "trialstream.streaming.opening",
    "watch": "trialstream.streaming.watch",
} | dict.fromkeys(
    (
        "AsyncTracker",
        "Handle",
        "Health",
        "SyncTracker",
        "Terminated",
        "Tracker",
        "chrono",
        "current",
        "instrument",
        "log",
        "log_arguments",
        "log_metadata",
        "note",
        "tag",
        "track",
    ),
    "trialstream.tracking",
)


if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(_LAZY[name])
        globals()[name] = found = getattr(module, name, module)  # a module is a name, too
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
