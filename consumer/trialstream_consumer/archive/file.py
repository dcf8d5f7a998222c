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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import fastavro
from fastavro.write import Writer
from trialstream_schemas.errors import SchemaError, TrialStreamError
from trialstream_schemas.wire.schemas import schemas_from_json, schemas_to_json

from trialstream_consumer.progress import Progress

__all__ = ["Archive", "ArchiveError", "LoggedRecord", "new_archive"]

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
_PARSED = fastavro.parse_schema(SCHEMA)
_SCHEMAS, _SOURCE, _SEAL = "trialstream.schemas", "trialstream.source", "trialstream.seal"
# Placeholder of the seal in the header: the seal is known only at the end, and then overwrites these characters. It has
# 20 digits, a space and 64 hexadecimal digits.
_UNSEALED = "." * 85
# The records of a torn file can be counted up to the last whole block, so blocks are small; larger ones would compress
# little better.
_BLOCK_BYTES = 64 * 1024


class ArchiveError(TrialStreamError):
    """A file cannot be written, or is not a whole archive; the message names the file."""


@dataclass(frozen=True)
class Archive:
    """An archive that was read to its end and agrees with its seal.

    Attributes:
        file: Path of the file.
        records: Number of records in the file.
        schemas: Schemas of the events in the file: fingerprint → JSON.
    """

    file: Path
    records: int
    schemas: dict[bytes, bytes]

    @classmethod
    def check(cls, file: Path, progress: Progress) -> Archive:
        """Read a file to its end and compare it with its seal.

        Args:
            file: Path of the file.
            progress: Called after each block.

        Raises:
            ArchiveError: The file cannot be read, is not an archive, or is torn or changed; the message says how many
                records are whole.
        """
        whole = 0
        try:
            with file.open("rb") as source:
                blocks = _blocks(file, source)
                body = source.tell()
                records, digest, schemas = _metadata(file, blocks.metadata)
                try:
                    for block in blocks:
                        whole += sum(1 for _ in block)
                        progress("checking", whole, records)
                except Exception as error:
                    raise ArchiveError(_torn(file, whole, records)) from error
                if whole != records:
                    raise ArchiveError(_torn(file, whole, records))
                source.seek(body)
                if hashlib.file_digest(source, "sha256").hexdigest() != digest:
                    raise ArchiveError(
                        f"{file} was changed: all {records} records are there, but their SHA-256 is not the one in the "
                        "seal; nothing was imported"
                    )
        except OSError as error:
            raise ArchiveError(f"{file} cannot be read: {error}") from error
        return cls(file, records, schemas)

    def logged_records(self) -> Iterator[LoggedRecord]:
        """The records in the order of the file."""
        with self.file.open("rb") as source:
            for record in fastavro.reader(source):
                assert isinstance(record, dict)
                yield record


def _blocks(file: Path, source: BinaryIO) -> Any:
    try:
        return fastavro.block_reader(source)
    except Exception as error:
        raise ArchiveError(f"{file} is no archive of trialstream: it is not an Avro object container") from error


def _metadata(file: Path, metadata: dict[str, str]) -> tuple[int, str, dict[bytes, bytes]]:
    """The number of records and the digest from the seal, and the schemas."""
    if metadata.get(_SEAL) == _UNSEALED:
        raise ArchiveError(f"{file} was never finished: export it again; nothing was imported")
    try:
        records, digest = metadata[_SEAL].split()
        return int(records), digest, schemas_from_json(metadata[_SCHEMAS])
    except SchemaError as error:
        raise ArchiveError(f"{file}: {error}; nothing was imported") from error
    except (KeyError, ValueError) as error:
        raise ArchiveError(f"{file} is no archive of trialstream: it is another Avro file") from error


def _torn(file: Path, whole: int, records: int) -> str:
    return f"{file} is torn: {whole} of its {records} records are whole; nothing was imported"


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
    partial = file.with_name(f"{file.name}.partial")
    metadata = {
        _SCHEMAS: schemas_to_json(schemas),
        _SOURCE: json.dumps(source),
        _SEAL: _UNSEALED,
    }
    records = 0
    try:
        with partial.open("w+b") as output:
            writer = Writer(output, _PARSED, "deflate", _BLOCK_BYTES, metadata)
            body = output.tell()

            def write(record: LoggedRecord) -> None:
                nonlocal records
                writer.write(record)
                records += 1

            yield write
            writer.flush()
            _seal(output, body, records)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ArchiveError(f"{file} cannot be written: {error}") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _seal(output: BufferedRandom, body: int, records: int) -> None:
    """Overwrite the placeholder in the header, and flush the file to the disk."""
    output.seek(body)
    digest = hashlib.file_digest(output, "sha256").hexdigest()
    output.seek(0)
    output.seek(output.read(body).index(_UNSEALED.encode()))
    output.write(f"{records:020d} {digest}".encode())
    output.flush()
    os.fsync(output.fileno())
