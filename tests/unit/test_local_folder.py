"""The data folder refuses what it cannot read, and remembers what runs on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.folder import FORMAT, DataFolder, Run
from trialstream_console.local.ports import Ports
from trialstream_console.local.process import ProcessId
from trialstream_console.local.status import look

VERSIONS = {"kafka": "4.3.1", "mongod": "6.0.5"}


@pytest.fixture
def folder(tmp_path):
    """A folder whose launcher this process is."""
    folder = DataFolder(tmp_path / "data")
    assert folder.acquire()
    yield folder
    folder.release()


def test_a_new_folder_takes_the_default_ports_and_a_later_start_remembers_what_was_chosen(folder):
    """Ports, prefix and cluster id stay until something else is asked for."""
    first = folder.open(**VERSIONS, ports=None, prefix=None)
    folder.open(**VERSIONS, ports=Ports(1, 2, 3), prefix="mine")
    again = folder.open(**VERSIONS, ports=None, prefix=None)

    assert first.ports == Ports(9092, 9093, 27017)
    assert (again.ports, again.prefix, again.cluster) == (Ports(1, 2, 3), "mine", first.cluster)
    assert again == folder.settings()
    assert len(first.cluster) == 22


def test_a_folder_of_another_format_is_refused(folder):
    """The message names both formats and what to do."""
    folder.open(**VERSIONS, ports=None, prefix=None)
    content = json.loads((folder.path / "stack.json").read_text())
    (folder.path / "stack.json").write_text(json.dumps({**content, "format": FORMAT + 1}))

    with pytest.raises(LocalStackError, match=f"has format {FORMAT + 1}, .* reads {FORMAT}: .*another --data"):
        folder.open(**VERSIONS, ports=None, prefix=None)


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"kafka": "4.4.0"}, "was written by Kafka 4.3.1, installed is 4.4.0"),
        ({"mongod": "7.0.5"}, "was written by MongoDB 6.0.5, installed is 7.0.5"),
    ],
    ids=["Kafka", "MongoDB"],
)
def test_a_folder_of_other_servers_is_refused(folder, versions, words):
    """Servers do not read each other's files across minor versions without an upgrade of their own."""
    folder.open(**VERSIONS, ports=None, prefix=None)

    with pytest.raises(LocalStackError, match=words):
        folder.open(**{**VERSIONS, **versions}, ports=None, prefix=None)


def test_a_patch_release_of_a_server_goes_on_with_the_folder(folder):
    """4.3.1 and 4.3.2 read the same files."""
    folder.open(**VERSIONS, ports=None, prefix=None)

    assert folder.open(kafka="4.3.2", mongod="6.0.15", ports=None, prefix=None).kafka == "4.3.2"


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    """Someone's home folder must not fill with servers' files."""
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(LocalStackError, match="holds other files"):
        DataFolder(tmp_path).acquire()
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    """Not a traceback."""
    (tmp_path / "file").touch()

    with pytest.raises(LocalStackError, match=r"file/data cannot be used \(Not a directory\)"):
        DataFolder(tmp_path / "file" / "data").acquire()


def test_a_damaged_record_is_an_error_that_names_the_file(folder):
    """Not a traceback either."""
    (folder.path / "stack.json").write_text("{")

    with pytest.raises(LocalStackError, match=r"stack\.json cannot be read"):
        folder.settings()


def test_only_one_launcher_works_on_a_folder(folder):
    """The second one is told, also when it is in the same process."""
    other = DataFolder(folder.path)

    assert not other.acquire()
    folder.release()
    assert other.acquire()
    other.release()


def test_what_a_killed_launcher_left_is_stopped_and_nothing_else(folder):
    """A recorded pid that now belongs to another process is left alone."""
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(sleep) as ours, subprocess.Popen(sleep) as foreign:
        left, other = ProcessId.of(ours.pid), ProcessId.of(foreign.pid)
        assert left is not None
        assert other is not None
        servers = {"mongod": left, "kafka": ProcessId(other.pid, other.created - 100)}
        folder.record(Run(ProcessId(os.getpid(), 1.0), ready=True, servers=servers))

        assert look(folder).state == "stopped"
        assert folder.stop_leftovers(10) == ["mongod"]
        assert folder.stop_leftovers(10) == []
        assert other.alive
        foreign.kill()


def test_what_runs_reads_back_as_it_was_written(folder):
    """Any process can find the launcher and its servers."""
    run = Run(ProcessId(1, 2.5), "Starting Kafka", servers={"mongod": ProcessId(3, 4.5)}, error="because")
    folder.record(run)

    assert folder.run() == run
    folder.record(None)
    assert folder.run() is None


def test_looking_at_a_folder_that_does_not_exist_does_not_make_it(tmp_path):
    """`status` and `down` write nothing where nothing was."""
    folder = DataFolder(tmp_path / "none")

    assert folder.clean() == []
    assert look(folder).state == "stopped"
    assert not folder.path.exists()
