"""Connect to trialstream: the function that chooses and makes a protocol."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 (Python refuses its first import in an exit handler, which may connect)
from typing import TYPE_CHECKING, Any, Literal, overload

from trialstream_schemas.errors import ConfigError

from trialstream.backends import open_url
from trialstream.config import Config

if TYPE_CHECKING:
    from trialstream.kafka.protocol import KafkaProtocol, LoggingProtocol
    from trialstream.reading.read_only import ReadOnlyProtocol

__all__ = ["connect", "protocol_of"]


@overload
def connect(
    url: None = ...,
    *,
    kafka: str | None = ...,
    mongo: str | None = ...,
    prefix: str | None = ...,
    offline: bool | None = ...,
    read_only: Literal[False] | None = ...,
    timeout: float = ...,
    **settings: Any,
) -> KafkaProtocol: ...
@overload
def connect(
    url: str,
    *,
    read_only: Literal[False] | None = ...,
    timeout: float = ...,
    **settings: Any,
) -> LoggingProtocol: ...
@overload
def connect(
    url: str | None = ...,
    *,
    kafka: str | None = ...,
    mongo: str | None = ...,
    prefix: str | None = ...,
    offline: bool | None = ...,
    read_only: Literal[True],
    timeout: float = ...,
    **settings: Any,
) -> ReadOnlyProtocol: ...
def connect(
    url: str | None = None,
    *,
    kafka: str | None = None,
    mongo: str | None = None,
    prefix: str | None = None,
    offline: bool | None = None,
    read_only: bool | None = None,
    timeout: float = 30.0,
    **settings: Any,
) -> LoggingProtocol | ReadOnlyProtocol:
    """Make a protocol, to be entered: `async with trialstream.connect() as protocol:`.

    Args:
        url: A place without servers: `memory:` for a log of its own in memory, `memory:NAME` for one that all protocols
            of this process share, `spool:PATH` with `read_only` for what offline runs have logged, `archive:PATH` with
            `read_only` for a file of `trialstream export`, or the backend of another package. Settings then come from
            this call alone, not from the environment. None for Kafka and MongoDB.
        kafka: Bootstrap servers, `host:port[,host:port...]`; `TRIALSTREAM_KAFKA` if not given.
        mongo: MongoDB URI; `TRIALSTREAM_MONGO` if not given. Empty: the protocol only logs, and needs no MongoDB.
        prefix: Prefix of the topics and databases; `TRIALSTREAM_PREFIX` if not given.
        offline: Whether to work without servers: all events go into the spool, and `trialstream push` sends them later;
            `TRIALSTREAM_OFFLINE` if not given. Otherwise, if Kafka cannot be reached at the start, the protocol warns
            and writes to the spool until Kafka can be reached.
        read_only: Whether to read with MongoDB alone: no connection to Kafka is made and nothing is created; methods
            that log raise `ProjectionIsReadOnly`; `TRIALSTREAM_READ_ONLY` if not given.
        timeout: Maximum duration of any wait, seconds.
        **settings: Further fields of `Config`, such as `spool` or `kafka_security_protocol`. `projection="name"` reads
            that projection, read-only. With `sync_writes=True`, each log call returns once its event is folded.

    Returns:
        A `ReadOnlyProtocol` with `read_only` or `projection`, otherwise a `KafkaProtocol`, or that of the URL.

    Raises:
        ConfigError: A setting is invalid; the message names it.
    """
    settings |= {"kafka": kafka, "mongo": mongo, "prefix": prefix, "offline": offline, "read_only": read_only}
    if url is not None:
        return open_url(url, settings, timeout)
    config = Config.from_env(**settings)
    return protocol_of(config, timeout=timeout)


def protocol_of(config: Config, *, timeout: float) -> KafkaProtocol | ReadOnlyProtocol:
    """Make the protocol that the settings select.

    Args:
        config: The settings.
        timeout: Maximum duration of any wait, seconds.

    Returns:
        A `ReadOnlyProtocol` with `read_only` or `projection`, otherwise a `KafkaProtocol`.

    Raises:
        ConfigError: A setting is invalid, or two settings exclude each other: `offline` excludes `read_only` and
            `projection`, and `sync_writes` excludes all three and `when_full="drop_oldest"`. `read_only`, `projection`
            and `sync_writes` need `mongo`.
    """
    only_reads = bool(config.read_only or config.projection)
    if config.offline and only_reads:
        raise ConfigError(
            "offline: cannot be set together with read_only or projection, since an offline protocol can only log"
        )
    if config.sync_writes and (config.offline or only_reads):
        raise ConfigError(
            "sync_writes: cannot be set together with offline, read_only or projection, since such a protocol waits "
            "for no event to be folded"
        )
    if not config.mongo and (only_reads or config.sync_writes):
        raise ConfigError(
            "mongo: expected a URI, got an empty text: read_only, projection and sync_writes need MongoDB, so set "
            "TRIALSTREAM_MONGO"
        )
    if config.sync_writes and config.when_full == "drop_oldest":
        raise ConfigError(
            "sync_writes: cannot be set together with when_full='drop_oldest', which may drop an event whose call waits"
        )
    # Imported here, in the caller's thread and before the I/O thread starts, which then imports nothing.
    if only_reads:
        from trialstream.reading.read_only import ReadOnlyProtocol  # noqa: PLC0415 (heavy)

        return ReadOnlyProtocol(config, timeout=timeout)
    from trialstream.kafka.protocol import KafkaProtocol  # noqa: PLC0415 (heavy)

    return KafkaProtocol(config, timeout=timeout)
