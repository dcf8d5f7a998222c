"""Files of TFRecords: length, masked CRC-32C of the length, data, masked CRC-32C of the data.

The format is described in tensorflow/core/lib/io/record_writer.h. A file that is being written ends in a part of a
record, which is no damage; it is left for the next reading.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trialstream_schemas.errors import SchemaError

from trialstream.event_log.checksums import crc32c
from trialstream.files import open_given

__all__ = ["MAX_RECORD_BYTES", "frame", "read_records"]

MAX_RECORD_BYTES = 256 * 1024 * 1024
"""Maximum size of a record, bytes: TensorBoard's own records with images and embeddings are smaller than this."""

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """Encode a record."""
    length = struct.pack("<Q", len(data))
    return length + _FOOTER.pack(_masked(length)) + data + _FOOTER.pack(_masked(data))


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read the records of a file, one at a time.

    Args:
        path: The file.

    Yields:
        The offset of the end of each record, bytes, and its data.

    Raises:
        InvalidValue: The file cannot be read.
        SchemaError: The file has a damaged record; the message has the file and the offset.
    """
    with open_given(path) as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while (record := _next(file, path, at, size)) is not None:
            at += _HEADER.size + len(record) + _FOOTER.size
            yield at, record


def _next(file: BinaryIO, path: Path, at: int, size: int) -> bytes | None:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length, crc = _HEADER.unpack(header)
    if _masked(header[:8]) != crc:
        raise SchemaError(f"{path}: expected a record at byte {at}, got a length with a wrong checksum")
    if length > MAX_RECORD_BYTES:
        raise SchemaError(f"{path}: expected a record of at most {MAX_RECORD_BYTES} bytes at byte {at}, got {length}")
    if at + _HEADER.size + length + _FOOTER.size > size:
        return None
    data = file.read(length)
    footer = file.read(_FOOTER.size)
    if len(footer) < _FOOTER.size:
        return None
    if _FOOTER.unpack(footer)[0] != _masked(data):
        raise SchemaError(f"{path}: expected a record at byte {at}, got data with a wrong checksum")
    return data
