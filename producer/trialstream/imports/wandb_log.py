"""The records of a `.wandb` file: LevelDB's log format (doc/log_format.md of LevelDB), with a header and zlib's CRC-32.

The file is cut into blocks of 32 KiB. A block holds parts of records: checksum, length, type, data. A file that is
being written ends in a part of a record, which is left for the next reading.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from trialstream_schemas.errors import SchemaError

from trialstream.files import open_given

__all__ = ["MAX_RECORD_BYTES", "read_wandb"]

MAX_RECORD_BYTES = 256 * 1024 * 1024
"""Maximum size of a record, bytes."""

_BLOCK = 32 * 1024
_HEADER = b":W&B\xe1\xbe\x00"
_PART = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_wandb(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read the records of a file, one at a time.

    Args:
        path: The file.

    Yields:
        The offset of the end of each record, bytes, and its data.

    Raises:
        InvalidValue: The file cannot be read.
        SchemaError: The file is no `.wandb` file, or has a damaged record; the message has the file and the offset.
    """
    parts: list[bytes] = []
    size = begun = 0
    with open_given(path) as file:
        at = 0
        while block := file.read(_BLOCK):
            place = 0
            if at == 0:
                if block[: len(_HEADER)] != _HEADER[: len(block)]:
                    raise SchemaError(f"{path}: expected the header of a .wandb file, got {block[:7]!r}")
                place = len(_HEADER)
            while place + _PART.size <= len(block):
                crc, length, kind = _PART.unpack_from(block, place)
                where = f"{path}: expected a record at byte {at + place}"
                if not kind and not length and not crc:  # room that was reserved and not written
                    break
                end = place + _PART.size + length
                if end > len(block):
                    if len(block) < _BLOCK:
                        return
                    raise SchemaError(f"{where}, got {length} bytes, which exceed the block")
                data = block[place + _PART.size : end]
                if not _FULL <= kind <= _LAST:
                    raise SchemaError(f"{where}, got a part of type {kind}")
                if zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc:
                    raise SchemaError(f"{where}, got data with a wrong checksum")
                if (kind in (_FULL, _FIRST)) == bool(parts):
                    raise SchemaError(f"{where}, got a part of type {kind} {'inside' if parts else 'without'} a record")
                if not parts:
                    begun = at + place
                parts.append(data)
                size += _PART.size + length
                if size > MAX_RECORD_BYTES:
                    raise SchemaError(f"{path}: expected a record of at most {MAX_RECORD_BYTES} bytes at byte {begun}")
                place = end
                if kind in (_FULL, _LAST):
                    yield at + place, b"".join(parts)
                    parts, size = [], 0
            at += len(block)
