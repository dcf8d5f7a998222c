"""The errors of trialstream: one tree.

TrialStreamError
├── InvalidValue            a value cannot be logged (also a ValueError)
├── InvalidType             an object has a type that cannot be logged (also a TypeError)
├── ItemNotFound            no trial, group, project or series matches the request (also a LookupError)
├── QueryError              a query has an operator, a field or a value that is not supported (also a ValueError)
├── ChronoError             a chrono was finished without being started (also a RuntimeError)
├── ProtocolClosed          the protocol was used before it was entered or after it was exited (also a RuntimeError)
├── ProjectionIsReadOnly    a log call on a protocol that only reads a projection (also a RuntimeError)
├── ConfigError             a setting is missing or invalid (also a ValueError)
├── ServerUnavailable       a server did not answer, or refuses this client
│   ├── KafkaUnavailable    Kafka did not answer
│   └── MongoUnavailable    MongoDB did not answer
│       └── QueryTimeout    a read took longer than its time limit (also a TimeoutError)
├── Offline                 the call needs a server that the protocol does without (also a RuntimeError)
├── SpoolError              the spool on disk cannot be written, read or sent
│   ├── SpoolBusy           another process uses the spool
│   └── SpoolFull           no space is left for events, in memory or in the spool
├── CommitTimeout           Kafka did not acknowledge all events in time (also a TimeoutError)
├── ProjectionBehind        the consumer did not fold the requested events in time (also a TimeoutError)
├── SchemaError             bytes are not an event, or a schema cannot be read (also a ValueError)
│   └── UnknownSchema       the schema of an event is unknown
├── LogMismatch             the projection was folded from another log, or the log lacks records
└── Fenced                  another consumer has taken over the partition

Each message says what was expected, what was found, and what to do. It is one line without control characters, whatever
the values that it quotes. Errors of aiokafka, motor and fastavro are translated to these where the library is called.
"""

from __future__ import annotations

from typing import ClassVar

from trialstream_schemas.messages import in_message

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
    "QueryTimeout",
    "SchemaError",
    "ServerUnavailable",
    "SpoolBusy",
    "SpoolError",
    "SpoolFull",
    "TrialStreamError",
    "UnknownSchema",
]


class TrialStreamError(Exception):
    """Base class of all errors of trialstream."""

    # A message may quote the values of any writer.
    _is_one_line: ClassVar[bool] = True

    def __init__(self, *args: object) -> None:
        one_line = self._is_one_line
        super().__init__(*[in_message(each, one_line=one_line) if isinstance(each, str) else each for each in args])


class InvalidValue(TrialStreamError, ValueError):
    """A value cannot be logged; the message names the key."""


class InvalidType(TrialStreamError, TypeError):
    """An object has a type that cannot be logged; the message names the key."""


class ItemNotFound(TrialStreamError, LookupError):
    """No trial, group, project or series matches the request."""


class QueryError(TrialStreamError, ValueError):
    """A query has an operator, a field or a value that is not supported; the message names it."""


class ChronoError(TrialStreamError, RuntimeError):
    """A chrono was finished without being started."""


class ProtocolClosed(TrialStreamError, RuntimeError):
    """The protocol was used before it was entered or after it was exited."""


class ProjectionIsReadOnly(TrialStreamError, RuntimeError):
    """A log call was made on a protocol that only reads a named projection; connect without `projection` to log."""


class ConfigError(TrialStreamError, ValueError):
    """A setting is missing or invalid; the message names it."""


class ServerUnavailable(TrialStreamError):
    """A server did not answer; the message names its address."""


class KafkaUnavailable(ServerUnavailable):
    """Kafka did not answer."""


class MongoUnavailable(ServerUnavailable):
    """MongoDB did not answer, or a read took longer than its time limit."""


class QueryTimeout(MongoUnavailable, TimeoutError):
    """A read took longer than its time limit, and was ended; MongoDB answers, as far as is known."""


class Offline(TrialStreamError, RuntimeError):
    """The call needs a server, and the protocol is offline, or has no MongoDB."""


class SpoolError(TrialStreamError):
    """The spool on disk cannot be written, read or sent; the message names the path."""


class SpoolBusy(SpoolError):
    """Another process uses the spool."""


class SpoolFull(SpoolError):
    """No space is left for events, in memory or in the spool; the message names the limit."""


class CommitTimeout(TrialStreamError, TimeoutError):
    """Kafka did not acknowledge all events in time; the events stay queued."""


class ProjectionBehind(TrialStreamError, TimeoutError):
    """The consumer did not fold the requested events in time; the message says how many events are not folded yet."""


class SchemaError(TrialStreamError, ValueError):
    """Bytes are not an event, or a schema cannot be read."""


class UnknownSchema(SchemaError):
    """The schema of an event is unknown; read the schemas topic to its end."""


class LogMismatch(TrialStreamError):
    """The projection was folded from another log, or the log lacks records; the message names topic and offsets."""


class Fenced(TrialStreamError):
    """Another consumer has taken over the partition."""
