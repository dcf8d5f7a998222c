"""Archives that somebody else has made: `import` refuses them in little memory and time, with one line."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import zlib

import fastavro
import pytest
from children import in_child
from trialstream.spool.container import MAX_HEADER_BYTES, read_header
from trialstream_consumer.archive import Archive, ArchiveError
from trialstream_consumer.archive.exporting import _refuse_existing
from trialstream_consumer.archive.file import new_archive
from trialstream_consumer.archive.records import PARSED, SCHEMA
from trialstream_schemas.wire.varint import long_bytes

PLACE = {"topic": "trials", "partition": 0, "timestamp": 0}
MIB = 1024 * 1024


def ignore(*_):
    """Ignore progress."""


def refused(file, mebibytes=64):
    """Return the message with which a file is refused, in little memory; it must not hang either."""
    with pytest.raises(ArchiveError) as caught:
        in_child(Archive.check, file, ignore, mebibytes=mebibytes, seconds=30)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert len(message) < 500
    assert message.isprintable()
    return message


def packed(plain):
    """Compress the bytes of a block."""
    return zlib.compress(plain, 9)[2:-4]


def encoded(*records):
    """Encode records of an archive."""
    out = io.BytesIO()
    for record in records:
        fastavro.schemaless_writer(out, PARSED, record)
    return out.getvalue()


def record(offset, **changes):
    """Return a record of the trials topic."""
    return {**PLACE, "offset": offset, "key": b"k", "value": b"v", **changes}


@pytest.fixture
def sealed(tmp_path):
    """Write an archive of blocks that somebody has made, with a seal that agrees, and return its file."""
    empty = tmp_path / "empty.avro"
    with new_archive(empty, {}, {}):
        pass
    data = empty.read_bytes()
    header = read_header(data)

    def write(*blocks, records=1):
        body = b"".join(long_bytes(count) + long_bytes(len(block)) + block + header.sync for count, block in blocks)
        seal = b"%020d %s" % (records, hashlib.sha256(body).hexdigest().encode())
        file = tmp_path / "log.avro"
        file.write_bytes(data[: header.end].replace(header.metadata["trialstream.seal"], seal) + body)
        return file

    return write


def test_a_sealed_file_is_read(sealed):
    """The hostile files of these tests differ from an archive in one thing only."""
    file = sealed((2, packed(encoded(record(0), record(1)))), (1, packed(encoded(record(5)))), records=3)

    assert [each["offset"] for each in Archive.check(file, ignore).logged_records()] == [0, 1, 5]


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        pytest.param([(2**40, packed(b""))], "expected 1099511627776 records in a block, got fewer", id="2^40 records"),
        pytest.param([(2**40, packed(encoded(record(0))))], "got fewer bytes", id="2^40 records and one there"),
        pytest.param([(0, packed(b""))], "expected 0 records", id="no record"),
        pytest.param([(-1, packed(encoded(record(0))))], "expected -1 records in a block", id="negative count"),
        pytest.param([(1, packed(bytes(MIB)))], "bytes more", id="1 MiB of zeros"),
        pytest.param([(1, packed(bytes(16 * MIB)))], "at most 2097152 bytes uncompressed, got more", id="deflate bomb"),
        pytest.param([(1, bytes(3 * MIB))], "expected a block of at most 2097152 bytes, got 3145728", id="large block"),
        pytest.param([(1, b"no deflate at all")], "a block is damaged", id="no deflate"),
        pytest.param([(1, packed(encoded(record(0)))[:-3])], "or a part of it", id="deflate cut off"),
        pytest.param([(300_000, packed(bytes(6) * 300_000))], "expected a record after", id="a record many times"),
        pytest.param(
            [(1, packed(encoded(record(1)))), (1, packed(encoded(record(0))))],
            "expected a record after",
            id="backwards",
        ),
        pytest.param([(1, packed(long_bytes(2) + bytes(10)))], "expected a topic and a kind of key", id="topic"),
        pytest.param([(1, packed(bytes(4) + long_bytes(-1) + bytes(4)))], "a kind of key, got 0 and -1", id="branch"),
        pytest.param([(1, packed(bytes(5) + long_bytes(2**62)))], "got fewer bytes", id="long value"),
        pytest.param([(1, packed(bytes(5) + long_bytes(-9)))], "expected a length, got -9", id="negative length"),
        pytest.param([(1, packed(b"\xff" * 40))], "more than 64 bits", id="an integer without an end"),
        pytest.param([(1, packed(encoded(record(0)) + b"more"))], "got 4 bytes more", id="bytes after the records"),
    ],
)
def test_hostile_blocks_are_refused(sealed, blocks, reason):
    """A block is refused before its numbers cost anything, though the seal agrees with the file."""
    message = refused(sealed(*blocks))

    assert "is torn: " in message
    assert reason in message


def test_a_file_that_changes_while_it_is_read(sealed):
    """A file that was changed after its check is not imported any further."""
    file = sealed((1, packed(encoded(record(0)))))
    archive = Archive.check(file, ignore)
    file.write_bytes(file.read_bytes() + b"more")

    with pytest.raises(ArchiveError, match=r"log\.avro was changed while it was read"):
        list(archive.logged_records())


def _nulls(path):
    """The file of 229 bytes, or so, that claims 2^40 nulls."""
    out = io.BytesIO()
    fastavro.writer(out, "null", [None], codec="null")
    data = out.getvalue()
    path.write_bytes(data[: read_header(data).end] + long_bytes(2**40) + long_bytes(0) + data[-16:])


def _another_schema(path):
    out = io.BytesIO()
    fields = [{"name": "values", "type": {"type": "array", "items": "null"}}]
    schema = {"type": "record", "name": "Wide", "fields": fields}
    fastavro.writer(out, schema, [{"values": [None] * 1000}], codec="deflate", metadata={"trialstream.seal": "0" * 85})
    path.write_bytes(out.getvalue())


def _bare(schema, codec="deflate", **metadata):
    """Return what writes a file with the schema of an archive, but for something."""

    def write(path):
        out = io.BytesIO()
        seal = "0" * 20 + " " + "0" * 64
        fastavro.writer(out, schema, [], codec=codec, metadata={"trialstream.seal": seal, **metadata})
        path.write_bytes(out.getvalue())

    return write


def _endless(path):
    with path.open("wb") as file:
        file.write(b"Obj\x01" + long_bytes(2) + long_bytes(2**40))
        file.truncate(2**40)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(_nulls, "is another Avro file", id="2^40 nulls"),
        pytest.param(_another_schema, "is another Avro file", id="another schema"),
        pytest.param(_bare({**SCHEMA, "fields": SCHEMA["fields"][:5]}), "is another Avro file", id="a field less"),
        pytest.param(_bare(SCHEMA, "null"), "is another Avro file", id="another codec"),
        pytest.param(_bare(SCHEMA), "it has no schemas", id="no schemas"),
        pytest.param(
            _bare(SCHEMA, **{"trialstream.schemas": "[" * 100_000}), "expected a JSON object", id="nested schemas"
        ),
        pytest.param(
            _bare(SCHEMA, **{"trialstream.schemas": "{" + " " * MAX_HEADER_BYTES}),
            "not an Avro object",
            id="large header",
        ),
        pytest.param(_endless, "is not an Avro object container", id="a key of 1 TiB"),
        pytest.param(os.mkfifo, "cannot be read: expected a file, got a FIFO", id="fifo"),
        pytest.param(lambda path: path.mkdir(), "cannot be read: expected a file, got a folder", id="folder"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "expected a file, got a device", id="device"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "No such file or directory", id="dangling link"),
    ],
)
def test_other_files_are_refused(tmp_path, make, reason):
    """Files that are no archives are refused, of any kind, and with any content that they claim to have."""
    make(tmp_path / "log.avro")

    assert reason in refused(tmp_path / "log.avro")


def test_every_cut_and_flipped_bit_is_refused(sealed):
    """A file that was cut anywhere, or of which any bit was flipped, is refused, or has the same records."""
    file = sealed((2, packed(encoded(record(0), record(1, key=None)))), records=2)
    whole = file.read_bytes()
    records = list(Archive.check(file, ignore).logged_records())
    for at in range(0, len(whole), 1 if len(whole) < 3000 else 7):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]):
            file.write_bytes(data)
            try:
                found = list(Archive.check(file, ignore).logged_records())
            except ArchiveError:
                continue
            assert found == records


def test_a_link_to_an_archive_is_read(sealed, tmp_path):
    """The path that a user gives may be a link."""
    (tmp_path / "link.avro").symlink_to(sealed((1, packed(encoded(record(0))))))

    assert Archive.check(tmp_path / "link.avro", ignore).records == 1


# --- Export


def test_an_export_is_for_its_user_alone_and_follows_no_link(tmp_path):
    """An archive has mode 0600; links under its name and under that of its partial file are replaced."""
    target = tmp_path / "target"
    target.write_bytes(b"before")
    for name in ("log.avro", "log.avro.partial"):
        (tmp_path / name).symlink_to(target)
    with new_archive(tmp_path / "log.avro", {}, {}) as write:
        write(record(0))

    assert target.read_bytes() == b"before"
    assert stat.S_IMODE((tmp_path / "log.avro").lstat().st_mode) == 0o600
    assert Archive.check(tmp_path / "log.avro", ignore).records == 1


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir()], ids=["fifo", "folder"])
def test_an_export_replaces_files_only(tmp_path, make):
    """`--force` replaces a file, not a folder, a FIFO or a device."""
    make(tmp_path / "log.avro")
    with pytest.raises(ArchiveError, match=r"log\.avro: expected a file to replace"):
        _refuse_existing(tmp_path / "log.avro", force=True)


def test_an_export_that_no_import_could_read_is_refused(tmp_path):
    """Schemas above the bound of a header are an error of the export."""
    schemas = {i.to_bytes(8, "big"): b'"%b"' % (b"x" * 100_000) for i in range(50)}
    with (
        pytest.raises(ArchiveError, match="expected schemas of at most 4194304 bytes together in the log"),
        new_archive(tmp_path / "log.avro", schemas, {}),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_one_line(tmp_path):
    """`trialstream import` of such a file is one line on stderr and exit code 1, before Kafka is looked for."""
    _nulls(tmp_path / "log.avro")
    ran = subprocess.run(
        [sys.executable, "-m", "trialstream_console.cli", "import", str(tmp_path / "log.avro")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TRIALSTREAM_KAFKA": "127.0.0.1:1"},
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"error: {tmp_path}/log.avro is no archive of trialstream: it is another Avro file\n"
