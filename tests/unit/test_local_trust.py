"""The data folder of the local stack against other users: what they could have written is refused, before it counts."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict

import pytest
from trialstream_console.local import binaries
from trialstream_console.local.consumer import ConsumerService
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.folder import DataFolder, LauncherRecord
from trialstream_console.local.ports import Ports
from trialstream_console.local.private_folder import PrivateFolder
from trialstream_console.local.process import ProcessId
from trialstream_console.local.status import read_status

VERSIONS = {"kafka": "4.3.1", "mongod": "6.0.5"}
NAMES = ["lock", "stack.json", "run.json"]
# How `up`, `down`, `status` and `env` begin.
USES = {
    "settings": DataFolder.read_settings,
    "record": DataFolder.read_record,
    "lock": DataFolder.try_lock,
    "leftovers": DataFolder.stop_leftovers_if_unlocked,
    "status": read_status,
}


@pytest.fixture
def folder(tmp_path):
    """A data folder that was used before."""
    folder = DataFolder(tmp_path / "data")
    folder.create()
    folder.update_settings(**VERSIONS, ports=None, prefix=None)
    yield folder
    folder.unlock()


@contextmanager
def umask(mask):
    """Set the umask of this process."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    """Return the permission bits of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


def refused(call, *arguments):
    """Return the message of the error of a call, which is one line."""
    with pytest.raises(LocalStackError) as error:
        call(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


@contextmanager
def sleeping(*words, stdout=subprocess.DEVNULL):
    """Run a process of this user that has nothing to do with a folder."""
    command = [sys.executable, "-c", "import time; time.sleep(600)", *words]
    with subprocess.Popen(command, stdout=stdout) as process:
        found = ProcessId.of(process.pid)
        assert found is not None
        try:
            yield found
            assert process.poll() is None
        finally:
            process.kill()


def record(launcher, **servers):
    """Return the content of a `run.json`."""
    return json.dumps(asdict(LauncherRecord(launcher, ready=True, servers=servers)))


# --- Owners and modes


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_folder_and_its_files_are_private_whatever_the_umask(tmp_path, mask):
    """The folder has mode 0700 and its files have mode 0600; also what a server writes."""
    with umask(mask):
        folder = DataFolder(tmp_path / "data")
        assert folder.try_lock()
        folder.update_settings(**VERSIONS, ports=None, prefix=None)
        folder.write_record(LauncherRecord(ProcessId(1, 0.0)))
        os.close(folder.empty_file("launcher.log"))
        server = Echo(folder.path, folder.read_settings().config())
        server.start()
        server.stop()
        folder.unlock()

    modes = {each.name: mode(each) for each in folder.path.iterdir()}
    assert mode(folder.path) == 0o700
    assert set(modes) == {"lock", "stack.json", "run.json", "launcher.log", "consumer.log", "written", "sub"}
    assert modes.pop("sub") == 0o700
    assert set(modes.values()) == {0o600}


class Echo(ConsumerService):
    """A server that writes a file into its working directory."""

    def _command(self):
        code = "import os, time; open('written', 'w').close(); os.mkdir('sub'); print('\"ready\"', flush=True)"
        return [sys.executable, "-c", f"{code}; time.sleep(600)"]


def test_an_old_folder_that_others_can_only_read_becomes_private(folder):
    """Earlier versions made folders by the umask: they are used, and hidden from others."""
    folder.path.chmod(0o755)
    (folder.path / "stack.json").chmod(0o644)

    assert folder.read_settings() is not None
    assert folder.try_lock()
    assert (mode(folder.path), mode(folder.path / "stack.json")) == (0o700, 0o600)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("bits", [0o770, 0o707, 0o1777], ids=["group", "others", "sticky"])
def test_a_folder_that_others_can_write_to_is_refused(folder, use, bits):
    """The message says what to do, and nothing in the folder is read, written or changed."""
    (folder.path / "run.json").write_text(record(ProcessId(os.getpid(), time.time())))
    folder.path.chmod(bits)
    before = sorted(folder.path.iterdir())

    assert "`chmod -R go-rwx`" in refused(use, folder)
    assert sorted(folder.path.iterdir()) == before
    assert mode(folder.path) == bits


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_folder_of_another_user_is_refused(folder, use, monkeypatch):
    """The message names both users."""
    (folder.path / "run.json").write_text(record(ProcessId(os.getpid(), time.time())))
    owner = folder.path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    assert f"the uid of this process, {owner + 1}, got {owner}" in refused(use, folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_user_is_refused(folder, name):
    """A file that another user could place before the folder was closed to others is not believed."""
    (folder.path / "run.json").write_text(record(ProcessId(os.getpid(), time.time())))
    os.chown(folder.path / name, 12345, -1)

    assert f"{name}: expected an owner" in refused(_everything, folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_others_can_write_to_is_refused(folder, name):
    """A file that others could have changed is not believed."""
    (folder.path / "run.json").write_text(record(ProcessId(os.getpid(), time.time())))
    (folder.path / name).chmod(0o666)

    assert f"{name}: expected a mode" in refused(_everything, folder)


def test_a_folder_with_other_files_keeps_its_mode(tmp_path):
    """A folder that is no data folder, such as a home folder, is refused and stays as it is."""
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)

    assert "contains other files" in refused(DataFolder(tmp_path).try_lock)
    assert mode(tmp_path) == 0o755


# --- Links, FIFOs and other files in place of ours


def _everything(folder):
    """Use each file that `up` uses before it starts a server."""
    folder.read_settings()
    folder.read_record()
    assert folder.try_lock()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["link", "dangling", "hard", "fifo", "folder", "device"])
def test_something_else_in_place_of_a_file_is_refused_and_left_alone(folder, tmp_path, name, kind):
    """A link is not followed, a second name is not used, and a FIFO is not waited for."""
    victim = tmp_path / "victim"
    victim.write_text('{"format": 1}')
    path = folder.path / name
    path.unlink(missing_ok=True)
    match kind:
        case "link":
            path.symlink_to(victim)
        case "dangling":
            path.symlink_to(tmp_path / "new")
        case "hard":
            path.hardlink_to(victim)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")

    assert str(path) in refused(_everything, folder)
    assert victim.read_text() == '{"format": 1}'
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["launcher.log", "consumer.log"])
def test_a_planted_log_is_neither_emptied_nor_written(folder, tmp_path, name):
    """A link in place of a log is refused before its target is opened for writing."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder.path / name).symlink_to(victim)
    server = Echo(folder.path, folder.read_settings().config())

    message = refused(folder.empty_file, name) if name == "launcher.log" else refused(server.start)
    server.kill()
    assert "expected a file, got a link" in message
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("draft", ["stack.json", ".stack.json.new"])
def test_what_is_written_replaces_a_planted_link(folder, tmp_path, draft):
    """A file is written under another name first, and takes the place of whatever has its name."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    private = PrivateFolder.open(folder.path, "")
    (folder.path / draft).unlink(missing_ok=True)
    (folder.path / draft).symlink_to(victim)
    with private:
        private.write("stack.json", "{}")

    assert victim.read_text() == "precious"
    assert (folder.path / "stack.json").read_text() == "{}"
    assert not (folder.path / "stack.json").is_symlink()


@pytest.mark.parametrize("name", ["kafka", "mongo"])
@pytest.mark.parametrize("kind", ["link", "file", "writable"])
def test_a_planted_folder_of_a_server_is_refused(folder, tmp_path, name, kind):
    """A server writes only into a folder that nobody else can change."""
    path = folder.path / name
    match kind:
        case "link":
            path.symlink_to(tmp_path)
        case "file":
            path.touch()
        case "writable":
            path.mkdir()
            path.chmod(0o777)
    with PrivateFolder.open(folder.path, "") as private:
        assert str(path) in refused(private.create_folder, name)


def test_a_folder_that_is_a_link_is_refused_with_its_target(folder, tmp_path):
    """A link could be turned to another folder between two looks: the folder itself must be named."""
    link = tmp_path / "link"
    link.symlink_to(folder.path)

    assert f"it is a link to {folder.path}" in refused(DataFolder(link).try_lock)


class Swapped(Echo):
    """A server whose folder is moved away before its process begins; another folder takes its path."""

    def _prepare(self):
        self.moved = self.folder.with_name("moved")
        self.folder.rename(self.moved)
        self.folder.mkdir()

    def _poll_startup(self):
        return (self.moved / "written").exists()


def test_a_folder_that_takes_the_path_is_not_used(folder):
    """Folders are held by their descriptors: a swap after the check changes nothing."""
    assert folder.try_lock()
    config = folder.read_settings().config()
    server = Swapped(folder.path, config)
    server.start()
    server.stop()
    folder.update_settings(**VERSIONS, ports=Ports(1, 2, 3), prefix=None)

    assert list(folder.path.iterdir()) == []
    assert json.loads((server.moved / "stack.json").read_text())["ports"]["kafka"] == 1


# --- Records that lie


def test_a_planted_record_kills_nobody(folder):
    """Pids with the right start time are left alone unless a launcher of this folder has started the processes."""
    log = os.open(folder.path / "kafka.log", os.O_WRONLY | os.O_CREAT, 0o600)
    with (
        sleeping("--dbpath", "mongo") as editor,
        sleeping() as shell,
        sleeping("a", "pager", stdout=log) as pager,
    ):
        os.close(log)
        planted = record(shell, mongod=editor, consumer=editor, kafka=pager)
        (folder.path / "run.json").write_text(planted)
        (folder.path / "run.json").chmod(0o600)

        assert read_status(folder).state == "stopped"
        assert not folder.stop_launcher(1)
        assert folder.stop_leftovers_if_unlocked() == []
        assert all(each.alive for each in (editor, shell, pager))


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 2**70, True, "1", None, 1.5, [1], {}], ids=repr)
def test_a_pid_that_is_none_is_refused(folder, pid):
    """`kill(-1)` would end all processes of the user, and `kill(0)` those of the group."""
    good = json.loads(record(ProcessId(1, 1.0), mongod=ProcessId(1, 1.0)))
    for path in ("launcher", "mongod"):
        content = json.loads(json.dumps(good))
        (content if path == "launcher" else content["servers"])[path]["pid"] = pid
        (folder.path / "run.json").write_text(json.dumps(content))

        assert "run.json: " in (message := refused(folder.read_record))
        assert f"{path}.pid: expected an integer from 1 to 2147483647" in message


def test_a_process_of_another_user_is_left_alone(folder, monkeypatch):
    """A pid of another user counts as not running."""
    me = ProcessId.of(os.getpid())
    monkeypatch.setattr(os, "geteuid", lambda: 54321)

    assert not me.alive
    assert not me.stop(1)


WRONG = [None, True, 0, -1, 1.5, 2**80, "", "x", "a\nb\u202e", [], [1], {}, {"x": 1}]


@pytest.mark.parametrize("name", ["stack.json", "run.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 30_000,
        b"\xff\xfe",
        b"9" * 10_000,
        b" " * 2**20,
        b'{"format": 1}',
        b'{"launcher": {}}',
    ],
    ids=lambda content: content[:8].hex() + f"-{len(content)}",
)
def test_a_malformed_file_is_one_line_that_names_it(folder, name, content):
    """No traceback, no deep recursion and no large read, whatever is in a file."""
    (folder.path / name).write_bytes(content)

    assert refused(read_status, folder).startswith(str(folder.path / name))


def test_a_wrong_type_in_any_field_is_one_line_that_names_it(folder):
    """Each field of each file takes its own type only."""
    good = {
        "stack.json": json.loads((folder.path / "stack.json").read_text()),
        "run.json": json.loads(record(ProcessId(1, 1.0), mongod=ProcessId(1, 1.0))),
    }
    cases = 0
    for name, content in good.items():
        for path in _paths(content):
            for wrong in WRONG:
                changed, last = json.loads(json.dumps(content)), path[-1]
                parent = changed
                for key in path[:-1]:
                    parent = parent[key]
                if (type(parent[last]) is type(wrong) and not isinstance(wrong, dict)) or (last, wrong) in FINE:
                    continue
                parent[last] = wrong
                (folder.path / name).write_text(json.dumps(changed))
                if path == ("servers",) and wrong in ({}, {"x": 1}):
                    assert read_status(folder).state == "stopped"
                    continue
                message = refused(read_status, folder)
                assert message.startswith(str(folder.path / name))
                assert last in message
                cases += 1
        (folder.path / name).write_text(json.dumps(content))
        (folder.path / name).chmod(0o600)
    assert cases > 150


FINE = [("created", 0), ("created", 1.5)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prefix", "../x"),
        ("prefix", ""),
        ("prefix", "a b; rm"),
        ("cluster", "-" * 22),
        ("cluster", "x"),
        ("kafka", "4.3.1\nx"),
        ("mongod", "v6"),
        ("format", 2),
    ],
)
def test_a_value_that_no_start_writes_is_refused(folder, field, value):
    """Values reach command lines, topics and URIs."""
    content = json.loads((folder.path / "stack.json").read_text()) | {field: value}
    (folder.path / "stack.json").write_text(json.dumps(content))

    refused(read_status, folder)


def _paths(content, path=()):
    for key, each in content.items():
        yield (*path, key)
        if isinstance(each, dict):
            yield from _paths(each, (*path, key))


def test_a_foreign_listener_is_not_taken_for_a_server(folder):
    """A server counts as ready only if it listens on the ports in `stack.json` itself."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as foreign, sleeping() as other:
        port = foreign.getsockname()[1]
        me = ProcessId.of(os.getpid())

        assert me.listens_on(port)
        assert not other.listens_on(port)


@pytest.mark.parametrize("kind", ["link", "writable"])
def test_the_list_of_jars_is_believed_only_if_it_is_ones_own(tmp_path, monkeypatch, kind):
    """The jars that it names are run."""
    cache = tmp_path / "trialstream"
    cache.mkdir()
    listed = cache / f"kafka-{binaries.KAFKA_VERSION}.json"
    jar = tmp_path / "evil.jar"
    jar.touch()
    planted = tmp_path / "planted"
    target = planted if kind == "link" else listed
    target.write_text(json.dumps({"coordinates": binaries._COORDINATES, "jars": [str(jar)]}))
    if kind == "link":
        listed.symlink_to(planted)
    else:
        cache.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    refused(binaries.kafka_class_path, lambda *_: None)
