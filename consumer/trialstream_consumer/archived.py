"""The backend `archive:` of `connect` and `stream`: a file of `trialstream export`, without servers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trialstream.config import check_timeout
from trialstream.event_log.topics import Route
from trialstream.reading.read_only import ReadOnlyProtocol
from trialstream.runtime.loop import run_sync
from trialstream_schemas.errors import ConfigError

from trialstream_consumer.archive import Archive, ArchiveLog
from trialstream_consumer.memory.backends import ReadOnlyMemory, settings_of
from trialstream_consumer.memory.reader import MemoryReader
from trialstream_consumer.memory.store import MemoryStore

__all__ = ["archive"]


class _ArchiveReader(MemoryReader):
    """Reads what an archive folds to, in memory."""

    def __init__(self, file: Path) -> None:
        super().__init__(MemoryStore())
        self._file = file

    async def open(self) -> None:
        """Read the file, and fold its events.

        Raises:
            ArchiveError: The file cannot be read, or is not a whole archive.
        """
        await run_sync(self._fill)

    def _fill(self) -> None:
        found = Archive.check(self._file, lambda *_: None)
        self._store.add_schemas(found.schemas.values())
        for record in found.logged_records():
            self._store.append(Route(record["topic"], 0), [record["value"]], record["timestamp"])


def archive(place: str, settings: Mapping[str, Any], timeout: float) -> ReadOnlyProtocol:
    """Make a protocol that reads an archive.

    Args:
        place: Path of the file.
        settings: Settings of the call to `connect`; those of the environment do not count.
        timeout: Maximum duration of any wait, seconds.

    Returns:
        The protocol.

    Raises:
        ConfigError: A setting is invalid or concerns servers, `read_only` is not set, or there is no such file.
    """
    config, seconds = settings_of("archive:", settings), check_timeout(timeout)
    if not config.read_only:
        raise ConfigError("read_only: expected True with archive:, which reads a file of `trialstream export`")
    path = Path(place).expanduser()
    if not (place and path.is_file()):
        raise ConfigError(f"archive: expected the path of a file after the colon, got {place!r}")
    return ReadOnlyMemory(config, seconds, lambda: _ArchiveReader(path), lambda: ArchiveLog(path))
