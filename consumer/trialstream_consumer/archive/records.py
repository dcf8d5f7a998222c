"""The records of an archive: their schema, and the blocks of a file that hold them, read within bounds."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import fastavro
from trialstream.spool.container import SYNC_BYTES, read_bytes
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.varint import LONG_BYTES, read_long

__all__ = ["PARSED", "SCHEMA", "LoggedRecord", "Readable", "fits_batch", "read_blocks"]

LoggedRecord: TypeAlias = dict[str, Any]
"""A record of the log with its place and time; its fields are those of `SCHEMA`."""

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "trialstream.LoggedRecord",
    "doc": "A record of the log. Its value is in Avro single-object encoding: C3 01, a fingerprint, the body; the "
    "schema of each fingerprint stands in the file's metadata, under trialstream.schemas.",
    "fields": [
        {"name": "topic", "type": {"type": "enum", "name": "trialstream.Topic", "symbols": ["registry", "trials"]}},
        {"name": "partition", "type": "int"},
        {"name": "offset", "type": "long"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "LogAppendTime."},
        {"name": "key", "type": ["null", "bytes"]},
        {"name": "value", "type": "bytes"},
    ],
}
PARSED = fastavro.parse_schema(SCHEMA)

_TOPICS = SCHEMA["fields"][0]["type"]["symbols"]
# Bound of a block, compressed or not. A writer ends a block at 64 KiB, and leaves out records that fit no batch.
_MAX_BLOCK_BYTES = 2 * 1024 * 1024
# Bound of key and value of a record: what consumers decode, which is Kafka's limit of a batch too, less the headers of
# batch and record.
_MAX_RECORD_BYTES = MAX_RECORD_BYTES - 128


class Readable(Protocol):
    """Bytes that are read in their order."""

    def read(self, size: int, /) -> bytes:
        """Return as many bytes; fewer at the end."""
        ...


def fits_batch(key: bytes | None, value: bytes | None) -> bool:
    """Whether a record fits a batch of Kafka; a larger one came in a batch that was compressed, and is never folded."""
    return len(key or b"") + len(value or b"") <= _MAX_RECORD_BYTES


def read_blocks(body: Readable, sync: bytes) -> Iterator[list[LoggedRecord]]:
    """Read the blocks of an archive.

    Args:
        body: The bytes after the header.
        sync: The marker after each block.

    Yields:
        The records of each block.

    Raises:
        SchemaError: The bytes are no blocks of records, or end within one, or the records are not in the order of an
            export: the registry before the trials, by partition, by offset. So a record cannot be repeated, which few
            bytes could do a million times.
    """
    last = (-1, -1, -1)
    while (count := _read_long(body)) is not None:
        size = _read_long(body)
        if size is None or not 0 <= size <= _MAX_BLOCK_BYTES:
            raise SchemaError(f"expected a block of at most {_MAX_BLOCK_BYTES} bytes, got {size}")
        data = body.read(size)
        if len(data) < size or body.read(SYNC_BYTES) != sync:
            raise SchemaError("expected the end of a block, got other bytes, or none")
        try:
            block, last = _records(_inflated(data), count, last)
        except IndexError as error:
            raise SchemaError(f"expected {count} records in a block, got fewer bytes") from error
        yield block


def _read_long(body: Readable) -> int | None:
    """Read an integer; return None at the end of the bytes."""
    found = body.read(1)
    if not found:
        return None
    while found[-1] & 0x80:
        byte = body.read(1)
        if not byte or len(found) == LONG_BYTES:
            raise SchemaError("expected an integer, got the end of the file, or more than 64 bits")
        found += byte
    return read_long(found, 0)[0]


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(data, _MAX_BLOCK_BYTES + 1)
    except zlib.error as error:
        raise SchemaError(f"a block is damaged: {error}") from error
    if len(plain) > _MAX_BLOCK_BYTES or not unpacker.eof:
        raise SchemaError(
            f"expected a block of at most {_MAX_BLOCK_BYTES} bytes uncompressed, got more, or a part of it"
        )
    return plain


def _records(plain: bytes, count: int, last: tuple[int, int, int]) -> tuple[list[LoggedRecord], tuple[int, int, int]]:
    """Read the records of a block.

    Args:
        plain: The uncompressed bytes.
        count: Number of records that the block claims.
        last: Topic, partition and offset of the record before.

    Returns:
        The records, and the place of the last one.
    """
    records: list[LoggedRecord] = []
    at = 0
    for _ in range(count):
        topic, at = read_long(plain, at)
        partition, at = read_long(plain, at)
        offset, at = read_long(plain, at)
        timestamp, at = read_long(plain, at)
        branch, at = read_long(plain, at)
        if not 0 <= topic < len(_TOPICS) or not 0 <= branch < len(SCHEMA["fields"][4]["type"]):
            raise SchemaError(f"expected a topic and a kind of key, got {topic} and {branch}")
        key, at = read_bytes(plain, at) if branch else (None, at)
        value, at = read_bytes(plain, at)
        if (topic, partition, offset) <= last:
            raise SchemaError(f"expected a record after {last}, got {(topic, partition, offset)}")
        last = (topic, partition, offset)
        records.append(
            {
                "topic": _TOPICS[topic],
                "partition": partition,
                "offset": offset,
                "timestamp": timestamp,
                "key": key,
                "value": value,
            }
        )
    if at != len(plain) or not records:
        raise SchemaError(f"expected {count} records in a block, got {len(plain) - at} bytes more")
    return records, last
