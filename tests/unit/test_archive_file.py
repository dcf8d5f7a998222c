"""The file of an archive, and the partitions into which its records are imported."""

from __future__ import annotations

import fastavro
import pytest
from trialstream_consumer.archive import Archive, ArchiveError
from trialstream_consumer.archive.file import new_archive
from trialstream_consumer.archive.importing import _partition
from trialstream_consumer.archive.records import SCHEMA
from trialstream_schemas.errors import TrialStreamError


def ignore(*_):
    """Ignore progress."""


def test_a_key_has_the_partition_that_kafka_assigns():
    """A key's partition is Kafka's (murmur2, Kafka's test vector); without a key it is the old number modulo count."""
    assert _partition({"key": b"foobar", "partition": 0}, 1000) == (-790332482 & 0x7FFFFFFF) % 1000
    assert _partition({"key": None, "partition": 5}, 4) == 1


def record(offset, value=b"x" * 1000):
    """A record of the trials topic."""
    place = {"topic": "trials", "partition": 0, "offset": offset}
    return {**place, "timestamp": 1_750_000_000_000, "key": b"k", "value": value}


def written(file, records=500):
    """Write an archive of many blocks and return its file."""
    with new_archive(file, {}, {}) as write:
        for offset in range(records):
            write(record(offset, bytes((offset * 7 + i * i) % 251 for i in range(1000))))
    return file


def test_a_whole_file_is_read_back_in_its_order(tmp_path):
    """A complete archive is read in the order in which it was written, and no other file is left in the folder."""
    archive = Archive.check(written(tmp_path / "log.avro"), ignore)

    assert archive.records == 500
    assert [each["offset"] for each in archive.logged_records()] == list(range(500))
    assert [each.name for each in tmp_path.iterdir()] == ["log.avro"]


def test_an_interrupted_writer_leaves_no_file_and_keeps_the_old_one(tmp_path):
    """An interrupted export leaves no file of its own and does not replace an earlier archive of the same name."""
    file = tmp_path / "log.avro"
    file.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), new_archive(file, {}, {}) as write:
        write(record(0))
        raise KeyboardInterrupt

    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_folder_is_named(tmp_path):
    """A missing folder is an ArchiveError, which is a TrialStreamError, with the path."""
    with pytest.raises(ArchiveError, match="nowhere"):
        written(tmp_path / "nowhere" / "log.avro")

    assert issubclass(ArchiveError, TrialStreamError)


@pytest.mark.parametrize("part", [0.3, 0.7, 0.999], ids="cut at {} of its length".format)
def test_a_torn_file_is_refused_with_the_number_of_whole_records(tmp_path, part):
    """A file cut anywhere after its header is refused, and the error has the number of complete records."""
    file = written(tmp_path / "log.avro")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ArchiveError, match=r"log\.avro is torn: \d+ of its 500 records are whole"):
        Archive.check(file, ignore)


def test_a_file_cut_between_two_blocks_is_torn_too(tmp_path):
    """A file cut between two blocks is refused as well, although Avro alone reads it without an error."""
    file = written(tmp_path / "log.avro")
    with file.open("rb") as source:
        first = next(iter(fastavro.block_reader(source)))
    file.write_bytes(file.read_bytes()[: first.offset + first.size])
    with pytest.raises(ArchiveError, match=f"{first.num_records} of its 500 records"):
        Archive.check(file, ignore)


def test_a_changed_byte_is_found(tmp_path):
    """A changed byte is an error: either the block cannot be read, or the digest differs."""
    file = written(tmp_path / "log.avro")
    changed = bytearray(file.read_bytes())
    changed[-100] ^= 4
    file.write_bytes(changed)
    with pytest.raises(ArchiveError, match="nothing was imported"):
        Archive.check(file, ignore)


@pytest.mark.parametrize("content", [b"", b"Obj\x01", b"no Avro at all" * 100], ids=["empty", "magic alone", "text"])
def test_a_file_that_is_no_container_is_refused(tmp_path, content):
    """A file that is not an Avro container is refused, and the error names the file."""
    file = tmp_path / "log.avro"
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"log\.avro is no archive of trialstream: it is not an Avro"):
        Archive.check(file, ignore)


@pytest.mark.parametrize("metadata", [{}, {"trialstream.seal": "?"}, {"trialstream.seal": "1 a"}], ids=str)
def test_another_avro_file_is_refused(tmp_path, metadata):
    """An Avro file with the same record schema but without the metadata of an archive is refused."""
    file = tmp_path / "log.avro"
    with file.open("wb") as output:
        fastavro.writer(output, SCHEMA, [], metadata=metadata)
    with pytest.raises(ArchiveError, match="it is another Avro file"):
        Archive.check(file, ignore)


def test_a_file_that_was_never_sealed_is_refused(tmp_path):
    """A file without the seal at its end, such as the FILE.partial of a killed export, is refused."""
    file = tmp_path / "log.avro"
    with file.open("wb") as output:
        fastavro.writer(output, SCHEMA, [], metadata={"trialstream.schemas": "{}", "trialstream.seal": "." * 85})
    with pytest.raises(ArchiveError, match="never finished"):
        Archive.check(file, ignore)


def test_a_missing_file_is_named(tmp_path):
    """A missing file is an error with its name and the reason that the operating system gives."""
    with pytest.raises(ArchiveError, match=r"log\.avro cannot be read.*No such file"):
        Archive.check(tmp_path / "log.avro", ignore)
