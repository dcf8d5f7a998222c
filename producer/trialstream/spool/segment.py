"""A segment of the spool: an Avro object container of encoded events.

Its codec is `snappy`, the one in Avro whose blocks carry a checksum (CRC-32 of the uncompressed bytes:
https://avro.apache.org/docs/1.12.0/specification/#required-codecs names it beside the required ones), and its metadata
hold the events' schemas: nothing but an Avro library is needed to read it. `read_segment` is stricter than such a
library, which skips the checksum, and more patient: it goes on behind a damaged block.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cramjam
import fastavro
from fastavro.write import Writer
from trialstream_schemas.errors import SpoolError
from trialstream_schemas.wire.schemas import SCHEMAS

__all__ = ["Container", "Contents", "Row", "read_segment"]

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
# What fastavro raises where the bytes end too soon.
_ENDED = (EOFError, IndexError)
_SCHEMAS, _WRITER, _PREFIX, _LOG = (f"trialstream.{each}" for each in ("schemas", "writer", "prefix", "log"))
_TEXTS = json.dumps({key.hex(): json.loads(text) for key, text in SCHEMAS.items()})
_MAGIC = b"Obj\x01"
# More than any version's header takes: this one's has 33,000.
_HEADER_BYTES = 1024 * 1024
_SYNC_BYTES = 16
_CRC_BYTES = 4
# Blocks end where `block` says, long before fastavro would end them by their size.
_NEVER = 2**40


class Row(NamedTuple):
    """An event on its way: which of the log's topics, the record's key, the encoded event."""

    topic: Literal["registry", "trials"]
    key: bytes
    value: bytes


class Contents(NamedTuple):
    """What a segment holds.

    Attributes:
        rows: Its events.
        schemas: Their schemas, fingerprint → JSON.
        writer: Id of the writer.
        prefix: Prefix of the log that they are for.
        log: Id of that log; empty if it was not known when they were written.
        lost_bytes: Bytes that are in no whole block.
        damaged: Whether they were whole once: not only the torn tail that a kill leaves.
    """

    rows: list[Row]
    schemas: dict[bytes, bytes]
    writer: str
    prefix: str
    log: str
    lost_bytes: int
    damaged: bool


class Container:
    """The bytes of a segment: first the header, then block after block."""

    def __init__(self, writer: str, prefix: str, log: str) -> None:
        self._buffer = io.BytesIO()
        metadata = {_SCHEMAS: _TEXTS, _WRITER: writer, _PREFIX: prefix, _LOG: log}
        self._writer = Writer(self._buffer, _PARSED, "snappy", _NEVER, metadata)
        self.header = self._taken()

    def block(self, rows: Sequence[Row]) -> bytes:
        """The next block, with these events."""
        for row in rows:
            self._writer.write(row._asdict())
        self._writer.flush()
        return self._taken()

    def _taken(self) -> bytes:
        taken = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return taken


def read_segment(path: Path) -> Contents:
    """Read a segment as far as it is whole.

    Raises:
        FileNotFoundError: it is not there.
        SpoolError: it cannot be read, is another file, or so damaged that nobody can tell.
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
            raise ValueError("no Avro object container")
        metadata, sync = header["meta"], header["sync"]
        schemas = {
            bytes.fromhex(key): json.dumps(each, sort_keys=True).encode()
            for key, each in json.loads(metadata[_SCHEMAS]).items()
        }
        writer, prefix, log = (metadata[key].decode() for key in (_WRITER, _PREFIX, _LOG))
    except Exception as error:
        begun = data.startswith(_MAGIC) or _MAGIC.startswith(data)
        if begun and isinstance(error, _ENDED) and len(data) < _HEADER_BYTES:
            return Contents([], {}, "", "", "", len(data), damaged=False)  # killed in its first write
        raise SpoolError(f"{path} is no spool of trialstream, or its header is damaged: {error!r}") from error
    rows: list[Row] = []
    at, lost, damaged = source.tell(), 0, False
    while at < len(data):
        block = _block(data, at)
        if block is None:  # what follows the next marker may be whole; without one it is the torn tail
            marker = data.find(sync, at)
            upcoming = len(data) if marker < 0 else marker + _SYNC_BYTES
            damaged |= marker >= 0
            lost += upcoming - at
            at = upcoming
            continue
        plain, size = block
        at += size
        source = io.BytesIO(plain)
        while source.tell() < len(plain):
            record: Any = fastavro.schemaless_reader(source, _PARSED, None)
            rows.append(Row(record["topic"], record["key"], record["value"]))
    return Contents(rows, schemas, writer, prefix, log, lost, damaged)


def _block(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The block at a place, if it is whole there: the checksum says so, whatever count and marker say."""
    source = io.BytesIO(data)
    source.seek(at)
    try:
        fastavro.schemaless_reader(source, "long", None)
        size: Any = fastavro.schemaless_reader(source, "long", None)
    except _ENDED:
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
