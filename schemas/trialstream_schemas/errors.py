"""The one error tree.

TrialStreamError
├── InvalidValue            a value that cannot be logged as it is (also a ValueError)
├── InvalidType             an object of a type that cannot be logged (also a TypeError)
├── ItemNotFound            no trial, group, project or series answers the request (also a LookupError)
├── QueryError              a query with an operator or a field that is not supported (also a ValueError)
├── ChronoError             a chrono was finished that was not started (also a RuntimeError)
├── ProtocolClosed          the protocol was used before it was entered or after it was left (also a RuntimeError)
├── ProjectionIsReadOnly    a projection that is only read cannot be logged to (also a RuntimeError)
├── ConfigError             a setting is missing or makes no sense (also a ValueError)
├── ServerUnavailable       Kafka or MongoDB did not answer
│   ├── KafkaUnavailable
│   └── MongoUnavailable
├── Offline                 the call needs servers, and the protocol works without (also a RuntimeError)
├── SpoolError              the spool on disk cannot be written, read or sent
│   ├── SpoolBusy           another process has it
│   └── SpoolFull           it has reached its cap
├── CommitTimeout           events were not acknowledged in time (also a TimeoutError)
├── ProjectionBehind        the consumer has not folded in time what was asked for (also a TimeoutError)
├── SchemaError             bytes that are not an event, or a schema that cannot be read (also a ValueError)
│   └── UnknownSchema       no schema with the fingerprint of an event is known
├── LogMismatch             the log is not the one that the projection was folded from
└── Fenced                  another consumer has taken over the partition

Each error's message says what to do next. What aiokafka, motor and fastavro raise is translated where it enters.
"""

from __future__ import annotations

__all__ = [
    "ChronoError",
    "CommitTimeout",
    "ConfigError",
    "Fenced",
    "InvalidType",
    "InvalidValue",
    "ItemNotFound",
    "KafkaUnavailable",
    "LogMismatch",
    "MongoUnavailable",
    "Offline",
    "ProjectionBehind",
    "ProjectionIsReadOnly",
    "ProtocolClosed",
    "QueryError",
    "SchemaError",
    "ServerUnavailable",
    "SpoolBusy",
    "SpoolError",
    "SpoolFull",
    "TrialStreamError",
    "UnknownSchema",
]


class TrialStreamError(Exception):
    """Root of everything that trialstream raises."""


class InvalidValue(TrialStreamError, ValueError):
    """A value that cannot be logged as it is; the message names the key."""


class InvalidType(TrialStreamError, TypeError):
    """An object of a type that cannot be logged; the message names the key."""


class ItemNotFound(TrialStreamError, LookupError):
    """No trial, group, project or series answers the request."""


class QueryError(TrialStreamError, ValueError):
    """A query uses an operator, a field or a value that is not supported; the message names it."""


class ChronoError(TrialStreamError, RuntimeError):
    """A chrono was finished that had not been started."""


class ProtocolClosed(TrialStreamError, RuntimeError):
    """The protocol was used before it was entered or after it was left."""


class ProjectionIsReadOnly(TrialStreamError, RuntimeError):
    """A protocol that reads a named projection was asked to log; connect without `projection` for that."""


class ConfigError(TrialStreamError, ValueError):
    """A setting is missing or makes no sense; the message names it."""


class ServerUnavailable(TrialStreamError):
    """A server did not answer; the message names its address."""


class KafkaUnavailable(ServerUnavailable):
    """Kafka did not answer."""


class MongoUnavailable(ServerUnavailable):
    """MongoDB did not answer."""


class Offline(TrialStreamError, RuntimeError):
    """The call needs servers, and the protocol works without them."""


class SpoolError(TrialStreamError):
    """The spool on disk cannot be written, read or sent; the message names the path."""


class SpoolBusy(SpoolError):
    """Another process has the spool."""


class SpoolFull(SpoolError):
    """Memory and disk hold as much as they may; the message names the cap."""


class CommitTimeout(TrialStreamError, TimeoutError):
    """Kafka did not acknowledge all events in time; they stay queued."""


class ProjectionBehind(TrialStreamError, TimeoutError):
    """The consumer has not folded in time what was asked for; the message says how far it is behind."""


class SchemaError(TrialStreamError, ValueError):
    """Bytes that are not an event, or a schema that cannot be read."""


class UnknownSchema(SchemaError):
    """No schema with the fingerprint of an event is known; read the schemas topic to its end."""


class LogMismatch(TrialStreamError):
    """The log is not the one that the projection was folded from; the message names topic and offsets."""


class Fenced(TrialStreamError):
    """Another consumer has taken over the partition."""
