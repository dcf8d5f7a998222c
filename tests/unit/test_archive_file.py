"""The file of an archive, and where its records go."""

from __future__ import annotations

import fastavro
import pytest
from trialstream_consumer.archive import Archive, ArchiveError
from trialstream_consumer.archive.file import SCHEMA, new_archive
from trialstream_consumer.archive.importing import _partition
from trialstream_schemas.errors import TrialStreamError


def ignore(*_):
    """Show no progress."""


def test_a_key_decides_the_partition_as_kafka_would():
    """By murmur2: the value is Kafka's own test vector. Without a key it keeps its number as far as that exists."""
    assert _partition({"key": b"foobar", "partition": 0}, 1000) == (-790332482 & 0x7FFFFFFF) % 1000
    assert _partition({"key": None, "partition": 5}, 4) == 1


def row(offset, value=b"x" * 1000):
    """A record of the log."""
    place = {"topic": "trials", "partition": 0, "offset": offset}
    return {**place, "timestamp": 1_750_000_000_000, "key": b"k", "value": value}


def written(file, records=500):
    """An archive of many blocks."""
    with new_archive(file, {}, {}) as write:
        for offset in range(records):
            write(row(offset, bytes((offset * 7 + i * i) % 251 for i in range(1000))))
    return file


def test_a_whole_file_is_read_back_in_its_order(tmp_path):
    """Nothing lies beside it."""
    archive = Archive.check(written(tmp_path / "log.avro"), ignore)

    assert archive.records == 500
    assert [each["offset"] for each in archive.logged_records()] == list(range(500))
    assert [each.name for each in tmp_path.iterdir()] == ["log.avro"]


def test_what_is_interrupted_leaves_no_file_and_keeps_the_one_that_was_there(tmp_path):
    """The name belongs to whole files."""
    file = tmp_path / "log.avro"
    file.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), new_archive(file, {}, {}) as write:
        write(row(0))
        raise KeyboardInterrupt

    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """As an error of the one tree."""
    with pytest.raises(ArchiveError, match="nowhere"):
        written(tmp_path / "nowhere" / "log.avro")

    assert issubclass(ArchiveError, TrialStreamError)


@pytest.mark.parametrize("part", [0.3, 0.7, 0.999], ids="cut at {} of its length".format)
def test_a_torn_file_is_refused_with_what_is_whole(tmp_path, part):
    """Wherever it was cut behind its header."""
    file = written(tmp_path / "log.avro")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ArchiveError, match=r"log\.avro is torn: \d+ of its 500 records are whole"):
        Archive.check(file, ignore)


def test_a_file_cut_between_two_blocks_is_torn_too(tmp_path):
    """Avro alone would take it for whole."""
    file = written(tmp_path / "log.avro")
    with file.open("rb") as source:
        first = next(iter(fastavro.block_reader(source)))
    file.write_bytes(file.read_bytes()[: first.offset + first.size])
    with pytest.raises(ArchiveError, match=f"{first.num_records} of its 500 records"):
        Archive.check(file, ignore)


def test_a_changed_byte_is_found(tmp_path):
    """By the block that it breaks, or by the digest."""
    file = written(tmp_path / "log.avro")
    changed = bytearray(file.read_bytes())
    changed[-100] ^= 4
    file.write_bytes(changed)
    with pytest.raises(ArchiveError, match="nothing was imported"):
        Archive.check(file, ignore)


@pytest.mark.parametrize("content", [b"", b"Obj\x01", b"no Avro at all" * 100], ids=["empty", "magic alone", "text"])
def test_what_is_no_container_is_refused(tmp_path, content):
    """With its name."""
    file = tmp_path / "log.avro"
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"log\.avro is no archive of trialstream: it is not an Avro"):
        Archive.check(file, ignore)


@pytest.mark.parametrize("metadata", [{}, {"trialstream.seal": "?"}, {"trialstream.seal": "1 a"}], ids=str)
def test_another_avro_file_is_refused(tmp_path, metadata):
    """Even one with the same records."""
    file = tmp_path / "log.avro"
    with file.open("wb") as output:
        fastavro.writer(output, SCHEMA, [], metadata=metadata)
    with pytest.raises(ArchiveError, match="it is another Avro file"):
        Archive.check(file, ignore)


def test_a_file_that_was_never_sealed_is_refused(tmp_path):
    """Such as the one beside FILE that a killed export leaves."""
    file = tmp_path / "log.avro"
    with file.open("wb") as output:
        fastavro.writer(output, SCHEMA, [], metadata={"trialstream.schemas": "{}", "trialstream.seal": "." * 85})
    with pytest.raises(ArchiveError, match="never finished"):
        Archive.check(file, ignore)


def test_a_file_that_is_not_there_is_named(tmp_path):
    """With the reason of the system."""
    with pytest.raises(ArchiveError, match=r"log\.avro cannot be read.*No such file"):
        Archive.check(tmp_path / "log.avro", ignore)
