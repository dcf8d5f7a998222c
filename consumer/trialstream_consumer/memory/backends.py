"""The backends `memory:` and `spool:` of `connect`, found by the entry points `trialstream.backends`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from trialstream.config import Config, check_timeout
from trialstream.kafka.protocol import LoggingProtocol
from trialstream.kafka.session import Session
from trialstream.pipeline.carrier import Carrier
from trialstream.reading.read_only import ReadOnlyProtocol
from trialstream.reading.reader import Reader
from trialstream.runtime.lifecycle import Lifecycle
from trialstream.spool.folder import Spool
from trialstream.streaming.source import LogSource
from trialstream_schemas.errors import ConfigError

from trialstream_consumer.memory.carrier import MemoryCarrier
from trialstream_consumer.memory.log import MemoryLog
from trialstream_consumer.memory.reader import MemoryReader
from trialstream_consumer.memory.spooled import SpoolLog, SpoolReader
from trialstream_consumer.memory.store import MemoryStore

__all__ = ["MemoryProtocol", "ReadOnlyMemory", "memory", "settings_of", "spool"]

# The settings that concern a protocol without servers.
_SETTINGS = ("read_only", "sync_writes", "when_full", "block_seconds", "memory_bytes")
# By process and name: a forked child is a process of its own, and its stores are not those of its parent.
_named: dict[tuple[int, str], MemoryStore] = {}


class MemoryProtocol(LoggingProtocol):
    """The Protocol over a log in the memory of this process; made by `connect("memory:")`.

    Args:
        config: Settings of what is logged.
        store: The log and its documents.
        timeout: Maximum duration of any wait, seconds.
    """

    def __init__(self, config: Config, store: MemoryStore, *, timeout: float) -> None:
        super().__init__(Session(config, timeout, _Memory(config, store)))


class ReadOnlyMemory(ReadOnlyProtocol):
    """A protocol that only reads, and whose log can be streamed.

    Args:
        config: Settings.
        timeout: Maximum duration of any wait, seconds.
        make_reader: Makes the reader.
        make_log: Makes the log for a stream.
    """

    def __init__(
        self, config: Config, timeout: float, make_reader: Callable[[], Reader], make_log: Callable[[], LogSource]
    ) -> None:
        super().__init__(config, timeout=timeout, make_reader=make_reader)
        self.log_source = make_log


class _Memory:
    """The parts of a session over a store: see `trialstream.kafka.servers.Servers`."""

    def __init__(self, config: Config, store: MemoryStore) -> None:
        self._config = config
        self._store = store

    def reader(self) -> Reader:
        """See `Servers.reader`."""
        return MemoryReader(self._store)

    def carrier(
        self,
        lifecycle: Lifecycle,
        spool: Spool | None,  # noqa: ARG002 (the log is always there)
        check_log: Callable[[Awaitable[str]], Coroutine[Any, Any, None]],  # noqa: ARG002 (there is one log only)
    ) -> Carrier:
        """See `Servers.carrier`."""
        return MemoryCarrier(self._store, self._config, lifecycle)


def memory(place: str, settings: Mapping[str, Any], timeout: float) -> LoggingProtocol | ReadOnlyProtocol:
    """Make a protocol over a log in memory.

    Args:
        place: Name of the log, which all protocols of this process with that name share until the process ends; empty
            for a log of its own.
        settings: Settings of the call to `connect`; those of the environment do not count.
        timeout: Maximum duration of any wait, seconds.

    Returns:
        The protocol; a `ReadOnlyProtocol` with `read_only`.

    Raises:
        ConfigError: A setting is invalid or concerns servers.
    """
    config, seconds = settings_of("memory:", settings), check_timeout(timeout)
    store = _named.setdefault((os.getpid(), place), MemoryStore()) if place else MemoryStore()
    if config.read_only:
        return ReadOnlyMemory(config, seconds, lambda: MemoryReader(store), lambda: _log_of(store, place))
    return MemoryProtocol(config, store, timeout=seconds)


def _log_of(store: MemoryStore, place: str) -> LogSource:
    if not place:
        raise ConfigError("url: expected memory: with the name of a log, such as 'memory:NAME', got one without")
    return MemoryLog(store, f"memory:{place}")


def spool(place: str, settings: Mapping[str, Any], timeout: float) -> ReadOnlyProtocol:
    """Make a protocol that reads spools: offline runs that are not pushed yet.

    Args:
        place: Path of a spool, or of a folder of spools.
        settings: Settings of the call to `connect`; those of the environment do not count.
        timeout: Maximum duration of any wait, seconds.

    Returns:
        The protocol.

    Raises:
        ConfigError: A setting is invalid or concerns servers, `read_only` is not set, or there is no such folder.
    """
    config, seconds = settings_of("spool:", settings), check_timeout(timeout)
    if not config.read_only:
        raise ConfigError(
            "read_only: expected True with spool:, which reads what offline runs have logged; to log, connect with "
            "offline=True and spool_dir"
        )
    path = Path(place).expanduser()
    if not (place and path.is_dir()):
        raise ConfigError(f"spool: expected the path of a folder after the colon, got {place!r}")
    return ReadOnlyMemory(config, seconds, lambda: SpoolReader(path), lambda: SpoolLog(path))


def settings_of(scheme: str, settings: Mapping[str, Any]) -> Config:
    """Check the settings of a backend without servers.

    Args:
        scheme: The scheme, with its colon.
        settings: Settings of the call to `connect`.

    Returns:
        All settings.

    Raises:
        ConfigError: A setting is invalid or concerns servers.
    """
    for name in settings:
        if name not in _SETTINGS:
            raise ConfigError(f"{name}: expected no value with {scheme}, which takes {', '.join(_SETTINGS)} only")
    config = Config(prefix="memory", spool="off", **settings)
    if config.read_only and config.sync_writes:
        raise ConfigError("sync_writes: cannot be set together with read_only, since such a protocol cannot log")
    return config
