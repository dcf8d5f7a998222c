"""Open a connection: the one function that chooses a Protocol."""

from __future__ import annotations

from typing import Any

from trialstream.config import Config
from trialstream.kafka.protocol import KafkaProtocol

__all__ = ["connect"]


def connect(
    *,
    kafka: str | None = None,
    mongo: str | None = None,
    prefix: str | None = None,
    offline: bool | None = None,
    timeout: float = 30.0,
    **settings: Any,
) -> KafkaProtocol:
    """A protocol, to be entered: `async with trialstream.connect() as protocol:`.

    Args:
        kafka: Bootstrap servers; `TRIALSTREAM_KAFKA` if not given.
        mongo: MongoDB URI; `TRIALSTREAM_MONGO` if not given.
        prefix: Names the topics and the database; `TRIALSTREAM_PREFIX` if not given.
        offline: Work without servers: all goes into the spool, and `trialstream push` sends it; `TRIALSTREAM_OFFLINE`
            if not given. A Kafka that cannot be reached at start has the same effect until it can, with a warning.
        timeout: Seconds that any wait takes at most.
        **settings: Further fields of `Config`, such as `spool` or `kafka_security_protocol`; with `projection="name"`
            it reads that projection and cannot log.

    Raises:
        ConfigError: a setting makes no sense; the message names it.
    """
    config = Config.from_env(kafka=kafka, mongo=mongo, prefix=prefix, offline=offline, **settings)
    if config.projection:
        from trialstream.kafka.read_only import ProjectionProtocol  # noqa: PLC0415 (it is a KafkaProtocol)

        return ProjectionProtocol(config, timeout=timeout)
    return KafkaProtocol(config, timeout=timeout)
