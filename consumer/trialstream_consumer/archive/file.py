"""The archive's file: an Avro object container with a seal.

Its metadata hold the schemas of the log, so that nothing else is needed to read it, and the seal: how many records it
has and the SHA-256 of what follows the header. Without it a file that was cut between two blocks would look whole.
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
from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.wire.codec import SchemaStore

__all__ = ["Archive", "ArchiveError", "Progress", "Row", "new_archive", "store_of"]

Row: TypeAlias = dict[str, Any]
# Told the step, how many records are done, and how many there are.
Progress: TypeAlias = Callable[[str, int, int], None]

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
# The seal is known last and stands first: its room is held free. 20 digits, a space, 64 hexadecimal digits.
_UNSEALED = "." * 85
# A torn file loses one block at most from what can be told whole; larger ones compress little better.
_BLOCK_BYTES = 64 * 1024


class ArchiveError(TrialStreamError):
    """A file cannot be written, or is not a whole archive; the message names it."""


@dataclass(frozen=True)
class Archive:
    """A file that was read through and is whole.

    Attributes:
        file: Where it lies.
        records: How many records it has.
        schemas: The schemas of its events: fingerprint → JSON.
    """

    file: Path
    records: int
    schemas: dict[bytes, bytes]

    @classmethod
    def check(cls, file: Path, progress: Progress) -> Archive:
        """Read a file through.

        Raises:
            ArchiveError: it is not an archive, or torn, or not what was written; the message says how much is whole.
        """
        whole = 0
        try:
            with file.open("rb") as source:
                blocks = _blocks(file, source)
                body = source.tell()
                records, digest, schemas = _facts(file, blocks.metadata)
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
                        f"{file} has {whole} of its {records} records and is not what was written: its SHA-256 "
                        "differs; nothing was imported"
                    )
        except OSError as error:
            raise ArchiveError(f"{file} cannot be read: {error}") from error
        return cls(file, records, schemas)

    def rows(self) -> Iterator[Row]:
        """Its records, as `LoggedRecord` has them."""
        with self.file.open("rb") as source:
            for row in fastavro.reader(source):
                assert isinstance(row, dict)
                yield row


def _blocks(file: Path, source: BinaryIO) -> Any:
    try:
        return fastavro.block_reader(source)
    except Exception as error:
        raise ArchiveError(f"{file} is no archive of trialstream: it is not an Avro object container") from error


def _facts(file: Path, metadata: dict[str, str]) -> tuple[int, str, dict[bytes, bytes]]:
    """Of the metadata, how many records there should be, their digest, and the schemas."""
    if metadata.get(_SEAL) == _UNSEALED:
        raise ArchiveError(f"{file} was never finished: export it again; nothing was imported")
    try:
        records, digest = metadata[_SEAL].split()
        schemas = json.loads(metadata[_SCHEMAS])
        texts = {bytes.fromhex(key): json.dumps(each, sort_keys=True).encode() for key, each in schemas.items()}
        return int(records), digest, texts
    except (KeyError, ValueError, AttributeError) as error:
        raise ArchiveError(f"{file} is no archive of trialstream: it is another Avro file") from error


def _torn(file: Path, whole: int, records: int) -> str:
    return f"{file} is torn: {whole} of its {records} records are whole; nothing was imported"


@contextmanager
def new_archive(file: Path, schemas: dict[bytes, bytes], source: Mapping[str, Any]) -> Iterator[Callable[[Row], None]]:
    """Write beside the file; what is sealed and on the disk takes its name, and anything less is deleted.

    Args:
        file: Where it goes.
        schemas: The schemas of its events: fingerprint → JSON.
        source: What to say of the log that it was taken from.
    """
    partial = file.with_name(f"{file.name}.partial")
    metadata = {
        _SCHEMAS: json.dumps({key.hex(): json.loads(text) for key, text in schemas.items()}),
        _SOURCE: json.dumps(source),
        _SEAL: _UNSEALED,
    }
    records = 0
    try:
        with partial.open("w+b") as output:
            writer = Writer(output, _PARSED, "deflate", _BLOCK_BYTES, metadata)
            body = output.tell()

            def write(row: Row) -> None:
                nonlocal records
                writer.write(row)
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
    output.seek(body)
    digest = hashlib.file_digest(output, "sha256").hexdigest()
    output.seek(0)
    output.seek(output.read(body).index(_UNSEALED.encode()))
    output.write(f"{records:020d} {digest}".encode())
    output.flush()
    os.fsync(output.fileno())


def store_of(texts: dict[bytes, bytes]) -> SchemaStore:
    """The schemas of an archive or a log, ready to decode with."""
    store = SchemaStore()
    for text in texts.values():
        store.add(text)
    return store
