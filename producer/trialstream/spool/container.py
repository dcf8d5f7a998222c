"""Avro object containers, read within bounds.

A reader such as fastavro believes each number in a file: how many entries and items follow, and how long they are. Here
each number is compared with the bytes that are there before anything is read or reserved for it.

https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

from typing import NamedTuple

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.varint import read_long

__all__ = ["MAGIC", "MAX_HEADER_BYTES", "SYNC_BYTES", "Header", "read_bytes", "read_header", "texts_of"]

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
MAX_HEADER_BYTES = 4 * 1024 * 1024
"""Maximum size of a header, bytes. The schemas of one version take 26,000 bytes."""

# trialstream writes six entries.
_MAX_ENTRIES = 64
# Maximum length of a text in the metadata, characters: the names that trialstream writes have at most 64.
_MAX_TEXT = 256


class Header(NamedTuple):
    """The header of a container.

    Attributes:
        metadata: Its entries.
        sync: The marker after each block.
        end: Offset of the first block.
    """

    metadata: dict[str, bytes]
    sync: bytes
    end: int


def read_header(data: bytes) -> Header:
    """Read a header.

    Args:
        data: The first bytes of a container; those after `MAX_HEADER_BYTES` are not read.

    Raises:
        SchemaError: The bytes are no header.
        IndexError: The bytes end within the header.
    """
    data = data[:MAX_HEADER_BYTES]
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            raise IndexError("the file ends within its first four bytes")
        raise SchemaError("not an Avro object container")
    metadata: dict[str, bytes] = {}
    at, entries = len(MAGIC), 0
    while True:
        count, at = read_long(data, at)
        if not count:
            break
        if count < 0:  # the size of this part of the map follows
            _, at = read_long(data, at)
        entries += abs(count)
        if entries > _MAX_ENTRIES:
            raise SchemaError(f"expected at most {_MAX_ENTRIES} entries of metadata, got {entries}")
        for _ in range(abs(count)):
            key, at = read_bytes(data, at)
            metadata[_text(key, "a key")], at = read_bytes(data, at)
    end = at + SYNC_BYTES
    if end > len(data):
        raise IndexError("the file ends within the marker of its header")
    return Header(metadata, data[at:end], end)


def read_bytes(data: bytes | memoryview, at: int) -> tuple[bytes, int]:
    """Read bytes with their length before them.

    Args:
        data: The bytes that contain them.
        at: Offset of the length.

    Returns:
        The bytes, and the offset after them.

    Raises:
        SchemaError: The length is negative, or has more than 64 bits.
        IndexError: There are fewer bytes.
    """
    size, at = read_long(data, at)
    if size < 0:
        raise SchemaError(f"expected a length, got {size}")
    end = at + size
    if end > len(data):
        raise IndexError(f"expected {size} bytes, got {len(data) - at}")
    return bytes(data[at:end]), end


def texts_of(metadata: dict[str, bytes], keys: tuple[str, ...]) -> list[str]:
    """Return short texts of the metadata.

    Args:
        metadata: The entries of a header.
        keys: The keys of the texts.

    Raises:
        SchemaError: There is no such entry, or it is no text of printable characters.
    """
    if missing := [key for key in keys if key not in metadata]:
        raise SchemaError(f"expected {missing[0]} in the metadata, got none")
    return [_text(metadata[key], key) for key in keys]


def _text(data: bytes, what: str) -> str:
    text = data[: 4 * _MAX_TEXT].decode(errors="replace")
    if len(data) > 4 * _MAX_TEXT or len(text) > _MAX_TEXT or not text.isprintable() or "\ufffd" in text:
        raise SchemaError(f"expected {what} of at most {_MAX_TEXT} printable characters, got {data[:40]!r}")
    return text
