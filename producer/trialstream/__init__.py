"""Log experiments as a stream of events.

import trialstream as ts

async with ts.connect() as protocol:
    trial = await protocol.new_trial(ts.Trial(name="mlp", parameters={"lr": 0.1}), auto_increment=True)
    await protocol.log_trial_metrics(trial, step=1, loss=0.5)
"""

from __future__ import annotations

from trialstream_schemas.aggregators import (
    Aggregator,
    Lazy,
    Ring,
    RingAggregator,
    Stat,
    StatAggregator,
    TimeSeries,
    TimeSeriesAggregator,
    Value,
    ValueAggregator,
    timeseries_aggregator,
    value_aggregator,
)
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
from trialstream_schemas.structure import CustomStatus, Project, Status, Trial, TrialError, TrialGroup

from trialstream.config import Config
from trialstream.kafka import KafkaProtocol, connect
from trialstream.protocol import MetricHistory, Protocol
from trialstream.query import path

__all__ = [
    "Aggregator",
    "ChronoError",
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
    "Lazy",
    "LogMismatch",
    "MetricHistory",
    "MongoUnavailable",
    "Offline",
    "Project",
    "ProjectionBehind",
    "ProjectionIsReadOnly",
    "Protocol",
    "ProtocolClosed",
    "QueryError",
    "Ring",
    "RingAggregator",
    "SchemaError",
    "ServerUnavailable",
    "SpoolBusy",
    "SpoolError",
    "SpoolFull",
    "Stat",
    "StatAggregator",
    "Status",
    "TimeSeries",
    "TimeSeriesAggregator",
    "Trial",
    "TrialError",
    "TrialGroup",
    "TrialStreamError",
    "UnknownSchema",
    "Value",
    "ValueAggregator",
    "connect",
    "path",
    "timeseries_aggregator",
    "value_aggregator",
]
