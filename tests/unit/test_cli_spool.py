"""`spool` and `push` on paths that are no spools, and the commands that messages print."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import trialstream as ts
import trialstream.sync
from trialstream_console.cli import spool as commands
from trialstream_schemas.errors import SpoolError


def _file(folder):
    (folder / "00000001.avro").write_bytes(b"")
    return folder / "00000001.avro"


def _nowhere(folder):
    return folder / "nowhere"


def _below_a_file(folder):
    return _file(folder) / "below"


def _other_files(folder):
    (folder / "below").mkdir()
    (folder / "below" / "00000001.damaged").write_bytes(b"")
    (folder / "below" / "notes.txt").write_bytes(b"")
    return folder


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run one of the two commands on paths, with a folder of spools elsewhere."""
    monkeypatch.setenv("TRIALSTREAM_SPOOL_DIR", str(tmp_path / "own"))

    def run(command, *paths):
        return commands.spool(list(paths)) if command == "spool" else commands.push(list(paths))

    return run


@pytest.mark.parametrize("command", ["spool", "push"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_file, "got a file: give the folder of the spool"),
        (_nowhere, "got a path that does not exist"),
        (_below_a_file, "got a path that does not exist"),
        (_other_files, r"got a folder without spools, which holds other files such as .*notes\.txt"),
    ],
)
def test_paths_that_are_no_spools(run, tmp_path, command, make, reason):
    """A path that is no spool is an error that says what it is; the other paths are not touched."""
    (tmp_path / "there").mkdir()
    (tmp_path / "empty").mkdir()
    path = make(tmp_path / "there")
    with pytest.raises(SpoolError, match=f"^{re.escape(str(path))}: expected a spool or a folder of spools, {reason}"):
        run(command, tmp_path / "empty", path)


@pytest.mark.parametrize("command", ["spool", "push"])
def test_empty_folders(run, tmp_path, capsys, command):
    """A folder whose spools were all sent is empty, or holds damaged files: there is nothing to send."""
    (tmp_path / "p" / "w").mkdir(parents=True)
    (tmp_path / "p" / "w" / "00000001.damaged").write_bytes(b"")
    run(command, tmp_path / "p")

    assert capsys.readouterr().out == "no events to send\n"


@pytest.mark.parametrize("command", ["spool", "push"])
def test_the_own_folder_may_hold_other_files(run, tmp_path, capsys, command):
    """The configured folder of spools is one, whatever else it holds."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_bytes(b"")
    run(command, tmp_path / "own")

    assert capsys.readouterr().out == "no events to send\n"


def test_without_paths(run, tmp_path, capsys):
    """Before the first event there is no folder, and nothing to send; a file in its place is an error."""
    run("spool")
    assert capsys.readouterr().out == "no events to send\n"

    (tmp_path / "own").write_bytes(b"")
    with pytest.raises(SpoolError, match="own: expected a spool or a folder of spools, got a file"):
        run("spool")


def test_exit_codes(tmp_path):
    """As a command, the error is one line on stderr with exit code 1."""
    ran = subprocess.run(
        [sys.executable, "-m", "trialstream_console.cli", "spool", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"error: {tmp_path}/nowhere: expected a spool or a folder of spools, got a path that does not exist\n"
    )


def test_printed_commands_can_be_pasted(tmp_path, caplog):
    """The command of each message names the folder as one word of a shell, whatever characters it has."""
    settings = {"offline": True, "spool_dir": str(tmp_path / "a b; echo $HOME 'x'")}
    with caplog.at_level(logging.WARNING, "trialstream"):
        for _ in range(2):
            with trialstream.sync.connect(**settings) as protocol:
                protocol.new_trial(ts.Trial(name="t"))
    folder = ts.Config(**settings).spools
    closed, found, _ = caplog.messages

    pushed = re.search(r"send (?:it|them) with (trialstream push .*) \(the protocol worked offline\)", closed)
    assert shlex.split(pushed[1])[:2] == ["trialstream", "push"]
    assert [str(Path(each).parent) for each in shlex.split(pushed[1])[2:]] == [str(folder)]
    assert shlex.split(re.search("`(.*)`", found)[1]) == ["trialstream", "push", str(folder)]
