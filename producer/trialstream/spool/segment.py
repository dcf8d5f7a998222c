"""A segment of the spool: an Avro object container of encoded events.

Its codec is `snappy`, the one in Avro whose blocks carry a checksum: the CRC-32 of the uncompressed bytes (listed after
the required codecs in https://avro.apache.org/docs/1.12.0/specification/#required-codecs). Its metadata hold the
schemas of the events, so any Avro library can read the file. `read_segment` also checks the checksums, which such a
library skips, and continues after a damaged block, where such a library stops.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cramjam
import fastavro
from fastavro.write import Writer
from trialstream_schemas.errors import SchemaError, SpoolError
from trialstream_schemas.wire.schemas import SCHEMAS, schemas_from_json, schemas_to_json
from trialstream_schemas.wire.varint import read_long

from trialstream.files import open_file, read_limited
from trialstream.spool import container

__all__ = ["Container", "Contents", "SpooledEvent", "parse_segment", "read_file", "read_segment"]

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "trialstream.SpooledEvent",
    "doc": "An event that waits to be sent. Its value is in Avro single-object encoding: C3 01, a fingerprint, the "
    "body; the schema of each fingerprint stands in the file's metadata, under trialstream.schemas.",
    "fields": [
        {"name": "topic", "type": {"type": "enum", "name": "trialstream.Topic", "symbols": ["registry", "trials"]}},
        {"name": "key", "type": "bytes", "doc": "Hash of the trial, or uid of the project or group."},
        {"name": "value", "type": "bytes"},
    ],
}
_PARSED = fastavro.parse_schema(SCHEMA)
_SCHEMAS, _WRITER, _PREFIX, _LOG = (f"trialstream.{each}" for each in ("schemas", "writer", "prefix", "log"))
_TOPICS: tuple[Literal["registry"], Literal["trials"]] = ("registry", "trials")
# Bounds of a file that is read. A segment is closed at 8 MiB, with at most a block above it; its events unpack to a
# few times as much, and one event takes at least 20 bytes of it.
MAX_FILE_BYTES = 16 * 1024 * 1024
_MAX_PLAIN_BYTES = 192 * 1024 * 1024
_MAX_EVENTS = 1_000_000
# A header that is torn is shorter than this: the header of this version has 25,900 bytes.
_TORN_BYTES = 128 * 1024
_CRC_BYTES = 4
# Three bytes of snappy's format make at most 64 (github.com/google/snappy/blob/main/format_description.txt).
_SNAPPY_RATIO = 22
# Minimum size that is counted for a block, so that the number of blocks is bounded, too.
_BLOCK_COST = 1024
# Size at which fastavro would end a block by itself: never, since `Container.block` ends each block.
_AUTO_BLOCK_BYTES = 2**40


class SpooledEvent(NamedTuple):
    """An encoded event as the spool stores it.

    Attributes:
        topic: The topic of the log that the event goes to.
        key: Key of the record.
        value: The event in single-object encoding.
    """

    topic: Literal["registry", "trials"]
    key: bytes
    value: bytes


class Contents(NamedTuple):
    """The contents of a segment.

    Attributes:
        events: Its events.
        schemas: Their schemas, fingerprint → JSON.
        writer: Id of the writer.
        prefix: Prefix of the log that the events belong to.
        log: Id of that log; empty if it was not known when the segment was begun.
        lost_bytes: Number of bytes outside of whole blocks.
        damaged: Whether a block was damaged after it was written, rather than torn by a kill.
    """

    events: list[SpooledEvent]
    schemas: dict[bytes, bytes]
    writer: str
    prefix: str
    log: str
    lost_bytes: int
    damaged: bool


class Container:
    """Encoder of a segment: makes the bytes of its header and of each block.

    Args:
        writer: Id of the writer.
        prefix: Prefix of the log that the events belong to.
        log: Id of that log; empty if it is not known.
        schemas: Schemas of the events, fingerprint → JSON; by default this version's.

    Attributes:
        header: The first bytes of the segment.
    """

    def __init__(self, writer: str, prefix: str, log: str, schemas: Mapping[bytes, bytes] = SCHEMAS) -> None:
        self._buffer = io.BytesIO()
        metadata = {_SCHEMAS: schemas_to_json(schemas), _WRITER: writer, _PREFIX: prefix, _LOG: log}
        self._writer = Writer(self._buffer, _PARSED, "snappy", _AUTO_BLOCK_BYTES, metadata)
        self.header = self._take_bytes()

    def block(self, events: Sequence[SpooledEvent]) -> bytes:
        """Encode events as the next block."""
        for event in events:
            self._writer.write(event._asdict())
        self._writer.flush()
        return self._take_bytes()

    def _take_bytes(self) -> bytes:
        taken = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return taken


def read_segment(path: Path) -> Contents:
    """Read the whole blocks of a segment: see `parse_segment`.

    Raises:
        FileNotFoundError: There is no such file.
        SpoolError: The file cannot be read, is no regular file of this user, or is no segment.
    """
    return parse_segment(path, read_file(path))


def read_file(path: Path, *, folder: int | None = None, others_allowed: bool = False) -> bytes:
    """Read the bytes of a segment.

    Args:
        path: Path of the file.
        folder: Descriptor of its folder; None to open it by its path.
        others_allowed: Whether the file may belong to another user.

    Raises:
        FileNotFoundError: There is no such file.
        SpoolError: The file cannot be read, is no regular file, is larger than a segment, or belongs to another user.
    """
    try:
        fd = open_file(path if folder is None else path.name, folder=folder, own=not others_allowed)
        try:
            data = read_limited(fd, MAX_FILE_BYTES)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SpoolError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise SpoolError(f"{path} is no spool segment: expected at most {MAX_FILE_BYTES} bytes, got more")
    return data


def parse_segment(path: Path, data: bytes) -> Contents:
    """Read the whole blocks of a segment from its bytes.

    A file that ends within its header counts as empty: its writer was killed before any event was written.

    Args:
        path: Path of the file, for messages.
        data: Its bytes.

    Raises:
        SpoolError: The bytes are no segment, the header is damaged, or the events exceed the bounds of a segment.
    """
    blocks = _Blocks(path, data)
    try:
        header = container.read_header(data)
        writer, prefix, log = container.texts_of(header.metadata, (_WRITER, _PREFIX, _LOG))
        schemas = schemas_from_json(header.metadata[_SCHEMAS])
    except (SchemaError, KeyError, IndexError) as error:
        # A damaged length can also make the header appear cut off, but then whole blocks follow.
        if isinstance(error, IndexError) and len(data) < _TORN_BYTES and not blocks.exist():
            return Contents([], {}, "", "", "", len(data), damaged=False)
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise SpoolError(f"{path} is not a trialstream spool segment, or its header is damaged: {reason}") from error
    events: list[SpooledEvent] = []
    at, lost, damaged = header.end, 0, False
    while at < len(data):
        block = blocks.read(at)
        if block is None:  # skip to the next sync marker, after which a whole block may begin; a torn tail has none
            marker = data.find(header.sync, at)
            end = len(data) if marker < 0 else marker + container.SYNC_BYTES
            damaged |= marker >= 0
            lost += end - at
            at = end
            continue
        plain, size = block
        try:
            _add_events(events, plain)
        except (SchemaError, IndexError) as error:
            raise SpoolError(f"{path}: expected events in the block at byte {at}: {error}") from error
        at += size
    return Contents(events, schemas, writer, prefix, log, lost, damaged)


def _add_events(events: list[SpooledEvent], plain: memoryview) -> None:
    at = 0
    while at < len(plain):
        topic, at = read_long(plain, at)
        if not 0 <= topic < len(_TOPICS):
            raise SchemaError(f"expected a topic below {len(_TOPICS)}, got {topic}")
        key, at = container.read_bytes(plain, at)
        value, at = container.read_bytes(plain, at)
        if len(events) == _MAX_EVENTS:
            raise SchemaError(f"expected at most {_MAX_EVENTS} events in a file, got more")
        events.append(SpooledEvent(_TOPICS[topic], key, value))


class _Blocks:
    """Reader of the blocks of a segment, at any offsets.

    All blocks together unpack to a bounded number of bytes, those included that are read at wrong offsets, or of which
    the checksum is wrong.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._view = memoryview(data)
        self._left = _MAX_PLAIN_BYTES

    def read(self, at: int) -> tuple[memoryview, int] | None:
        """Read the block that begins at an offset.

        The block counts as whole if its checksum is right; its count and its sync marker are not needed, and not
        checked.

        Returns:
            The uncompressed events and the size of the block in the file, bytes; None if no whole block begins there.

        Raises:
            SpoolError: The blocks unpack to more bytes than those of a segment.
        """
        data = self._data
        try:
            _, start = read_long(data, at)
            size, start = read_long(data, start)
            end = start + size
            if size <= _CRC_BYTES or end + container.SYNC_BYTES > len(data):
                return None
            length = _snappy_length(data, start)
        except (SchemaError, IndexError):
            return None
        if length > _SNAPPY_RATIO * size:
            return None
        self._left -= max(length, _BLOCK_COST)
        if self._left < 0:
            raise SpoolError(
                f"{self._path} is no spool segment: expected blocks of at most {_MAX_PLAIN_BYTES} bytes together, got "
                "more"
            )
        try:
            plain = memoryview(cramjam.snappy.decompress_raw(self._view[start : end - _CRC_BYTES]))
        except cramjam.DecompressionError:
            return None
        if zlib.crc32(plain) != int.from_bytes(data[end - _CRC_BYTES : end], "big"):
            return None
        return plain, end + container.SYNC_BYTES - at

    def exist(self) -> bool:
        """Whether a whole block begins at any offset."""
        return any(self.read(at) is not None for at in range(len(self._data)))


def _snappy_length(data: bytes, at: int) -> int:
    """Return the number of bytes to which a block claims to unpack: an unsigned varint of up to 32 bits."""
    length = 0
    for i in range(5):
        byte = data[at + i]
        length |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return length
    raise SchemaError("a length of more than 32 bits")
