"""The file of an archive: an Avro object container with a seal.

- The metadata hold every schema of the log, so the file can be read without Kafka.
- The metadata hold the seal: the number of records, and the SHA-256 of the bytes after the header. Without a seal, a
  reader of Avro could not detect that a file was cut between two blocks.
- A file gets its final name only after it is sealed and on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any, BinaryIO

from fastavro.write import Writer
from trialstream.files import new_file, open_file
from trialstream.spool.container import MAX_HEADER_BYTES, Header, read_header
from trialstream_schemas.errors import SchemaError, TrialStreamError
from trialstream_schemas.wire.schemas import schemas_from_json, schemas_to_json

from trialstream_consumer.archive.records import PARSED, SCHEMA, LoggedRecord, read_blocks
from trialstream_consumer.progress import Progress

__all__ = ["Archive", "ArchiveError", "new_archive"]

_SCHEMAS, _SOURCE, _SEAL = "trialstream.schemas", "trialstream.source", "trialstream.seal"
# Placeholder of the seal in the header: the seal is known only at the end, and then overwrites these characters. It has
# 20 digits, a space and 64 hexadecimal digits.
_UNSEALED = "." * 85
_SEALED = re.compile(rb"(\d{20}) ([0-9a-f]{64})")
# The records of a torn file can be counted up to the last whole block, so blocks are small; larger ones would compress
# little better.
_BLOCK_BYTES = 64 * 1024
# The schema of the records takes 1,000 bytes, with the entries that Avro adds to the header.
_MAX_SCHEMA_BYTES = _OTHER_HEADER_BYTES = 16 * 1024


class ArchiveError(TrialStreamError):
    """A file cannot be written, or is not a whole archive; the message names the file."""


@dataclass(frozen=True)
class Archive:
    """An archive that was read to its end and agrees with its seal.

    Attributes:
        file: Path of the file.
        records: Number of records in the file.
        schemas: Schemas of the events in the file: fingerprint → JSON.
        stamp: Device, inode, size and time of the last change of the file when it was checked.
    """

    file: Path
    records: int
    schemas: dict[bytes, bytes]
    stamp: tuple[int, ...]

    @classmethod
    def check(cls, file: Path, progress: Progress) -> Archive:
        """Read a file to its end and compare it with its seal.

        A block is in memory at a time, and each number in the file is compared with the bytes that are there, so a file
        from elsewhere costs little until it is refused.

        Args:
            file: Path of the file, which may be a link.
            progress: Called after each block.

        Raises:
            ArchiveError: The file cannot be read, is not an archive, or is torn or changed; the message says how many
                records are whole.
        """
        whole = 0
        with _opened(file) as source:
            stamp = _stamp(source)
            header = _header(file, source)
            records, digest, schemas = _metadata(file, header.metadata)
            body = _Body(source)
            try:
                for block in read_blocks(body, header.sync):
                    whole += len(block)
                    progress("checking", whole, records)
            except SchemaError as error:
                raise ArchiveError(_torn(file, whole, records, error)) from error
            if whole != records:
                raise ArchiveError(_torn(file, whole, records))
            if body.sha256.hexdigest() != digest:
                raise ArchiveError(
                    f"{file} was changed: all {records} records are there, but their SHA-256 is not the one in the "
                    "seal; nothing was imported"
                )
        return cls(file, records, schemas, stamp)

    def logged_records(self) -> Iterator[LoggedRecord]:
        """The records in the order of the file.

        Raises:
            ArchiveError: The file was changed since it was checked.
        """
        changed = f"{self.file} was changed while it was read"
        with _opened(self.file) as source:
            if _stamp(source) != self.stamp:
                raise ArchiveError(changed)
            header = _header(self.file, source)
            try:
                for block in read_blocks(_Body(source), header.sync):
                    yield from block
            except SchemaError as error:
                raise ArchiveError(f"{changed}: {error}") from error


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        with os.fdopen(open_file(file, follow=True), "rb") as source:
            yield source
    except OSError as error:
        raise ArchiveError(f"{file} cannot be read: {error.strerror or error}") from error


def _stamp(source: BinaryIO) -> tuple[int, ...]:
    """Device, inode, size and time of an open file: the same as long as the file is not changed."""
    found = os.fstat(source.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _header(file: Path, source: BinaryIO) -> Header:
    """Read the header, and go to the first block."""
    try:
        header = read_header(source.read(MAX_HEADER_BYTES))
    except (SchemaError, IndexError) as error:
        raise ArchiveError(
            f"{file} is no archive of trialstream: it is not an Avro object container ({error})"
        ) from error
    source.seek(header.end)
    return header


def _metadata(file: Path, metadata: Mapping[str, bytes]) -> tuple[int, str, dict[bytes, bytes]]:
    """The number of records and the digest from the seal, and the schemas."""
    seal = metadata.get(_SEAL, b"")
    if seal == _UNSEALED.encode():
        raise ArchiveError(f"{file} was never finished: export it again; nothing was imported")
    found = _SEALED.fullmatch(seal)
    if (
        found is None
        or metadata.get("avro.codec") != b"deflate"
        or not _is_logged_record(metadata.get("avro.schema", b""))
    ):
        raise ArchiveError(f"{file} is no archive of trialstream: it is another Avro file")
    try:
        return int(found[1]), found[2].decode(), schemas_from_json(metadata[_SCHEMAS])
    except SchemaError as error:
        raise ArchiveError(f"{file}: {error}; nothing was imported") from error
    except KeyError as error:
        raise ArchiveError(f"{file} is no archive of trialstream: it has no schemas") from error


def _is_logged_record(text: bytes) -> bool:
    """Whether the JSON of a schema is that of the records of an archive, whatever their documentation says."""
    try:
        return len(text) < _MAX_SCHEMA_BYTES and bool(_without_docs(json.loads(text)) == _without_docs(SCHEMA))
    except (ValueError, RecursionError):
        return False


def _without_docs(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_docs(each) for key, each in schema.items() if key != "doc"}
    return [_without_docs(each) for each in schema] if isinstance(schema, list) else schema


class _Body:
    """The bytes after the header, and the SHA-256 of those that were read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        return data


def _torn(file: Path, whole: int, records: int, error: Exception | None = None) -> str:
    reason = "" if error is None else f" ({error})"
    return f"{file} is torn: {whole} of its {records} records are whole; nothing was imported{reason}"


@contextmanager
def new_archive(
    file: Path, schemas: Mapping[bytes, bytes], source: Mapping[str, Any]
) -> Iterator[Callable[[LoggedRecord], None]]:
    """Write an archive to `FILE.partial`, and rename that when it is sealed and on the disk.

    If the block fails or is cancelled, the partial file is deleted, and an earlier `FILE` stays as it was.

    Args:
        file: Path of the file.
        schemas: Schemas of the events: fingerprint → JSON.
        source: Facts about the log, kept in the metadata as JSON.

    Yields:
        A function that writes a record.

    Raises:
        ArchiveError: The file cannot be written.
    """
    metadata = {_SCHEMAS: schemas_to_json(schemas), _SOURCE: json.dumps(source), _SEAL: _UNSEALED}
    if sum(map(len, metadata.values())) > MAX_HEADER_BYTES - _OTHER_HEADER_BYTES:
        raise ArchiveError(
            f"{file}: expected schemas of at most {MAX_HEADER_BYTES} bytes together in the log, got "
            f"{len(metadata[_SCHEMAS])}: an import could not read the file"
        )
    records = 0
    try:
        with new_file(file, f"{file.name}.partial") as output:
            writer = Writer(output, PARSED, "deflate", _BLOCK_BYTES, metadata)
            body = output.tell()

            def write(record: LoggedRecord) -> None:
                nonlocal records
                writer.write(record)
                records += 1

            yield write
            writer.flush()
            _seal(output, body, records)
    except OSError as error:
        raise ArchiveError(f"{file} cannot be written: {error.strerror or error}") from error


def _seal(output: BufferedRandom, body: int, records: int) -> None:
    """Overwrite the placeholder in the header."""
    output.seek(body)
    digest = hashlib.file_digest(output, "sha256").hexdigest()
    output.seek(0)
    output.seek(output.read(body).index(_UNSEALED.encode()))
    output.write(f"{records:020d} {digest}".encode())
