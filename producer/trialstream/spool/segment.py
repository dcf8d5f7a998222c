"""A segment of the spool: an Avro object container of encoded events.

Its codec is `snappy`, the one in Avro whose blocks carry a checksum: the CRC-32 of the uncompressed bytes (listed after
the required codecs in https://avro.apache.org/docs/1.12.0/specification/#required-codecs). Its metadata hold the
schemas of the events, so any Avro library can read the file. `read_segment` also checks the checksums, which such a
library skips, and continues after a damaged block, where such a library stops.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cramjam
import fastavro
from fastavro.write import Writer
from trialstream_schemas.errors import SpoolError
from trialstream_schemas.wire.schemas import SCHEMAS, schemas_from_json, schemas_to_json

__all__ = ["Container", "Contents", "SpooledEvent", "read_segment"]

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
# https://avro.apache.org/docs/1.12.0/specification/#object-container-files
_HEADER = fastavro.parse_schema(
    {
        "type": "record",
        "name": "org.apache.avro.file.Header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
        ],
    }
)
# Raised by fastavro where the bytes end too soon.
_TOO_SHORT = (EOFError, IndexError)
_SCHEMAS, _WRITER, _PREFIX, _LOG = (f"trialstream.{each}" for each in ("schemas", "writer", "prefix", "log"))
_MAGIC = b"Obj\x01"
# Upper bound of the size of a header: the header of this version has 25,900 bytes.
_HEADER_BYTES = 1024 * 1024
_SYNC_BYTES = 16
_CRC_BYTES = 4
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
    """Read the whole blocks of a segment.

    A file that ends within its header counts as empty: its writer was killed before any event was written.

    Raises:
        FileNotFoundError: There is no such file.
        SpoolError: The file cannot be read, or it is not a segment, or its header is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SpoolError(f"{path} cannot be read: {error.strerror}") from error
    source = io.BytesIO(data)
    try:
        header: Any = fastavro.schemaless_reader(source, _HEADER, None)
        if header["magic"] != _MAGIC:
            raise ValueError("not an Avro object container")
        metadata, sync = header["meta"], header["sync"]
        schemas = schemas_from_json(metadata[_SCHEMAS])
        writer, prefix, log = (metadata[key].decode() for key in (_WRITER, _PREFIX, _LOG))
    except Exception as error:
        begun = data.startswith(_MAGIC) or _MAGIC.startswith(data)
        # A damaged length can also make the header appear cut off, but then whole blocks follow.
        if begun and isinstance(error, _TOO_SHORT) and len(data) < _HEADER_BYTES and not _has_block(data):
            return Contents([], {}, "", "", "", len(data), damaged=False)
        raise SpoolError(f"{path} is not a trialstream spool segment, or its header is damaged: {error!r}") from error
    events: list[SpooledEvent] = []
    at, lost, damaged = source.tell(), 0, False
    while at < len(data):
        block = _block(data, at)
        if block is None:  # skip to the next sync marker, after which a whole block may begin; a torn tail has none
            marker = data.find(sync, at)
            end = len(data) if marker < 0 else marker + _SYNC_BYTES
            damaged |= marker >= 0
            lost += end - at
            at = end
            continue
        plain, size = block
        at += size
        source = io.BytesIO(plain)
        while source.tell() < len(plain):
            record: Any = fastavro.schemaless_reader(source, _PARSED, None)
            events.append(SpooledEvent(record["topic"], record["key"], record["value"]))
    return Contents(events, schemas, writer, prefix, log, lost, damaged)


def _has_block(data: bytes) -> bool:
    """Whether a whole block begins at any position."""
    return any(_block(data, at) is not None for at in range(len(data)))


def _block(data: bytes, at: int) -> tuple[bytes, int] | None:
    """Read the block that begins at a position.

    The block counts as whole if its checksum is right; its count and its sync marker are not needed, and not checked.

    Returns:
        The uncompressed events and the size of the block in the file, bytes; None if no whole block begins there.
    """
    source = io.BytesIO(data)
    source.seek(at)
    try:
        fastavro.schemaless_reader(source, "long", None)
        size: Any = fastavro.schemaless_reader(source, "long", None)
    except _TOO_SHORT:
        return None
    start, end = source.tell(), source.tell() + size
    if size < _CRC_BYTES or end + _SYNC_BYTES > len(data):
        return None
    try:
        plain = bytes(cramjam.snappy.decompress_raw(data[start : end - _CRC_BYTES]))
    except cramjam.DecompressionError:
        return None
    if zlib.crc32(plain) != int.from_bytes(data[end - _CRC_BYTES : end], "big"):
        return None
    return plain, end + _SYNC_BYTES - at
