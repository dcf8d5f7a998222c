"""The data folder of the local stack: a lock, a format, and the record of the stack's processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.folder import FORMAT, DataFolder, LauncherRecord
from trialstream_console.local.ports import Ports
from trialstream_console.local.process import ProcessId
from trialstream_console.local.status import read_status

VERSIONS = {"kafka": "4.3.1", "mongod": "6.0.5"}
WORDS = {
    "mongod": ["--dbpath", "mongo"],
    "kafka": ["kafka.Kafka", "kafka.properties"],
    "consumer": ["-m", "trialstream_console.cli", "consume"],
}


@pytest.fixture
def folder(tmp_path):
    """A folder that this process has locked."""
    folder = DataFolder(tmp_path / "data")
    assert folder.try_lock()
    yield folder
    folder.unlock()


@contextmanager
def running(folder, name, *, log=None, words=None):
    """Run a process that looks like a server of a folder, unless another log or other arguments are given."""
    words = WORDS[name] if words is None else words
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)", *words]
    log = folder.path / f"{name}.log" if log is None else log
    with log.open("ab") as out, subprocess.Popen(command, stdout=out) as process:
        try:
            while b"up" not in log.read_bytes():  # the interpreter has begun: its command line is this one
                assert process.poll() is None
            found = ProcessId.of(process.pid)
            assert found is not None
            yield found
        finally:
            process.kill()


def test_a_new_folder_has_the_default_ports_and_later_starts_keep_the_chosen_ones(folder):
    """Ports, prefix and cluster id of a folder are kept until others are given."""
    first = folder.update_settings(**VERSIONS, ports=None, prefix=None)
    folder.update_settings(**VERSIONS, ports=Ports(1, 2, 3), prefix="mine")
    again = folder.update_settings(**VERSIONS, ports=None, prefix=None)

    assert first.ports == Ports(9092, 9093, 27017)
    assert (again.ports, again.prefix, again.cluster) == (Ports(1, 2, 3), "mine", first.cluster)
    assert again == folder.read_settings()
    assert len(first.cluster) == 22


def test_a_folder_of_another_format_is_refused(folder):
    """A folder of another format is an error with both formats and the remedy."""
    folder.update_settings(**VERSIONS, ports=None, prefix=None)
    content = json.loads((folder.path / "stack.json").read_text())
    (folder.path / "stack.json").write_text(json.dumps({**content, "format": FORMAT + 1}))

    with pytest.raises(
        LocalStackError, match=f"expected format {FORMAT}, got format {FORMAT + 1}: .*another folder with --data"
    ):
        folder.update_settings(**VERSIONS, ports=None, prefix=None)


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"kafka": "4.4.0"}, "expected data of Kafka 4.4.0, which is installed, got data of Kafka 4.3.1"),
        ({"mongod": "7.0.5"}, "expected data of MongoDB 7.0.5, which is installed, got data of MongoDB 6.0.5"),
    ],
    ids=["Kafka", "MongoDB"],
)
def test_a_folder_of_other_servers_is_refused(folder, versions, words):
    """A folder of another minor version of Kafka or MongoDB is refused, since servers read it only after an upgrade."""
    folder.update_settings(**VERSIONS, ports=None, prefix=None)

    with pytest.raises(LocalStackError, match=words):
        folder.update_settings(**{**VERSIONS, **versions}, ports=None, prefix=None)


def test_a_patch_release_of_a_server_accepts_the_folder(folder):
    """A folder of another patch release of a server is accepted, since 4.3.1 and 4.3.2 read the same files."""
    folder.update_settings(**VERSIONS, ports=None, prefix=None)

    assert folder.update_settings(kafka="4.3.2", mongod="6.0.15", ports=None, prefix=None).kafka == "4.3.2"


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    """A folder with other files, for example a home folder, is refused and stays unchanged."""
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(LocalStackError, match="contains other files"):
        DataFolder(tmp_path).try_lock()
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    """A folder that cannot be created is an error with its path, so that the command prints no traceback."""
    (tmp_path / "file").touch()

    with pytest.raises(LocalStackError, match=r"file/data cannot be used \(Not a directory\)"):
        DataFolder(tmp_path / "file" / "data").try_lock()


def test_a_damaged_record_is_an_error_that_names_the_file(folder):
    """A damaged record is an error with the path of the file, so that the command prints no traceback."""
    (folder.path / "stack.json").write_text("{")

    with pytest.raises(LocalStackError, match=r"stack\.json cannot be read"):
        folder.read_settings()


def test_only_one_launcher_works_on_a_folder(folder):
    """A second launcher, even in the same process, cannot lock the folder."""
    other = DataFolder(folder.path)

    assert not other.try_lock()
    folder.unlock()
    assert other.try_lock()
    other.unlock()


def test_servers_left_behind_by_a_killed_launcher_are_stopped_and_nothing_else(folder):
    """Servers of a killed launcher are stopped; a recorded pid that now belongs to another process is left alone."""
    with running(folder, "mongod") as left, running(folder, "kafka") as other:
        servers = {"mongod": left, "kafka": ProcessId(other.pid, other.created - 100)}
        folder.write_record(LauncherRecord(ProcessId(os.getpid(), 1.0), ready=True, servers=servers))

        assert read_status(folder).state == "stopped"
        assert folder.stop_leftovers(10) == ["mongod"]
        assert folder.stop_leftovers(10) == []
        assert other.alive


def test_the_record_of_the_launcher_is_read_back_as_it_was_written(folder):
    """The record restores the launcher and its servers, so that any process can find them."""
    record = LauncherRecord(ProcessId(1, 2.5), "Starting Kafka", servers={"mongod": ProcessId(3, 4.5)}, error="because")
    folder.write_record(record)

    assert folder.read_record() == record
    folder.write_record(None)
    assert folder.read_record() is None


def test_reading_the_status_of_a_missing_folder_does_not_create_it(tmp_path):
    """`status` and `down` write nothing if there is no data folder."""
    folder = DataFolder(tmp_path / "none")

    assert folder.stop_leftovers_if_unlocked() == []
    assert read_status(folder).state == "stopped"
    assert not folder.path.exists()
