"""Unpacking of compressed batches into a buffer of a fixed size, so that no batch takes more memory than that."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import Any

import cramjam

__all__ = ["CODECS", "NotUnpacked", "unpack"]

CODECS = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
"""Names of Kafka's codecs, by the number in the attributes of a batch."""

# Blocks of raw snappy, each behind its length. Java's and aiokafka's writers send snappy in this form only.
# https://github.com/xerial/snappy-java
_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES = 16
_INTO: dict[str, Callable[[Any, Any], int]] = {
    "gzip": cramjam.gzip.decompress_into,
    "lz4": cramjam.lz4.decompress_into,
    "zstd": cramjam.zstd.decompress_into,
}


class NotUnpacked(Exception):
    """Bytes are not compressed with their codec, or unpack to more than the limit; the message says which."""


def unpack(codec: str, data: memoryview, limit: int) -> bytes:
    """Unpack bytes, if they unpack to at most a number of bytes.

    Nothing in the data is believed: the codecs write into a buffer of `limit` bytes and fail at its end. Pages of the
    buffer that are not written take no memory.

    Args:
        codec: A name of `CODECS`.
        data: The compressed bytes.
        limit: Maximum size of the result, bytes.

    Raises:
        NotUnpacked: The result would be larger, or the bytes are damaged.
    """
    try:
        if codec == "snappy":
            return _unpack_snappy(data, limit)
        with mmap.mmap(-1, limit) as buffer:
            return buffer[: _INTO[codec](data, buffer)]
    except (cramjam.DecompressionError, struct.error) as error:
        raise NotUnpacked(f"{codec} does not unpack to at most {limit} bytes: {error}") from None


def _unpack_snappy(data: memoryview, limit: int) -> bytes:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _unpack_block(data, limit)
    blocks: list[bytes] = []
    position = _XERIAL_HEADER_BYTES
    while position < len(data):
        (size,) = struct.unpack_from(">I", data, position)
        position += 4
        blocks.append(_unpack_block(data[position : position + size], limit))
        position += size
        limit -= len(blocks[-1])
    return b"".join(blocks)


def _unpack_block(data: memoryview, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(data) > limit:
        raise cramjam.DecompressionError("it claims more")
    return bytes(cramjam.snappy.decompress_raw(data))
