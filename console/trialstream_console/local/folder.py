"""The data folder of a local stack.

lock                 locked (flock) by the launcher for its lifetime
stack.json           `StackSettings`: format, versions, ports; kept between starts
run.json             `LauncherRecord`: launcher, step, servers; left behind if the launcher is killed or fails
kafka/  mongo/       data of the servers
*.log                one log file for each process

The folder and its files belong to this user, and no other user can write to them (`PrivateFolder`): what others could
have written is refused before it is believed. Even so, a process of the record is stopped only if it is one that a
launcher of this folder has started (`_is_ours`), since a folder may have been copied.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from trialstream.config import Config
from trialstream_schemas.errors import ConfigError

from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.json_fields import Fields
from trialstream_console.local.ports import Ports
from trialstream_console.local.private_folder import PrivateFolder
from trialstream_console.local.process import ProcessId

__all__ = ["FORMAT", "DataFolder", "LauncherRecord", "StackSettings"]

FORMAT = 1
"""Version of the folder's layout; increased when older code cannot read a new folder, or newer code an old one."""

_LOCK_SECONDS = 1.0  # `status` and `down` hold the lock for a moment
_REMEDY = "choose another folder with --data"
_MAX_JSON_BYTES = 256 * 1024  # a record has four processes, a step and an error with the end of a log
_MAX_PID = 2**31 - 1

# By name of a process, in the order in which servers are stopped: its file in the folder that it holds open, and words
# of its command line.
_SERVERS = {
    "dashboard": ("dashboard.log", ("trialstream_console.cli", "dashboard")),
    "consumer": ("consumer.log", ("trialstream_console.cli", "consume")),
    "kafka": ("kafka.log", ("kafka.Kafka", "kafka.properties")),
    "mongod": ("mongod.log", ("--dbpath", "mongo")),
}
_PORTS = ("kafka", "controller", "mongo")


@dataclass(frozen=True)
class StackSettings:
    """Settings in `stack.json`, kept from one start to the next.

    Attributes:
        kafka: Version of the Kafka that wrote the folder.
        mongod: Version of the mongod that wrote the folder.
        cluster: Kafka's cluster id.
        ports: Ports of the last start, which the next start uses unless others are given.
        prefix: Name of the topics and of the database.
        format: Version of the folder's layout.
    """

    kafka: str
    mongod: str
    cluster: str
    ports: Ports
    prefix: str
    format: int = FORMAT

    def config(self, partitions: int = 8) -> Config:
        """Return the configuration of clients of these servers.

        Args:
            partitions: Partition count of the trials topic when it is created.
        """
        kafka, mongo = self.ports.kafka_address, self.ports.mongo_uri
        return Config(kafka=kafka, mongo=mongo, prefix=self.prefix, partitions=partitions)


@dataclass(frozen=True)
class LauncherRecord:
    """Record in `run.json` about the launcher that is running, or about the last one if it failed or was killed.

    Attributes:
        launcher: Process that started the servers.
        step: Step of the start.
        ready: Whether all servers were started.
        servers: Processes of the servers by name.
        error: Failure that ended the launcher; empty if there was none.
    """

    launcher: ProcessId
    step: str = ""
    ready: bool = False
    servers: dict[str, ProcessId] = field(default_factory=dict)
    error: str = ""


class DataFolder:
    """A data folder; at most one launcher works on it at a time.

    Attributes:
        path: Absolute path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._locked: tuple[PrivateFolder, int] | None = None

    def create(self) -> None:
        """Create the folder if it does not exist, and its lock file, which marks it as a data folder.

        Raises:
            LocalStackError: The folder could not be created, is not this user's alone, or contains other files.
        """
        folder, lock = self._create()
        os.close(lock)
        folder.close()

    def try_lock(self) -> bool:
        """Lock the folder for this launcher; return False if another launcher holds the lock.

        Raises:
            LocalStackError: The folder could not be created, is not this user's alone, or contains other files.
        """
        folder, lock = self._create()
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    folder.close()
                    return False
                time.sleep(0.05)
            else:
                self._locked = folder, lock
                return True

    def unlock(self) -> None:
        """Release the lock; does nothing if this object does not hold it."""
        if self._locked is not None:
            folder, lock = self._locked
            self._locked = None
            os.close(lock)
            folder.close()

    def _create(self) -> tuple[PrivateFolder, int]:
        """Open the folder and its lock file, which are created if they do not exist."""
        folder = PrivateFolder.create(self.path, _REMEDY)
        try:
            if not folder.has("lock") and folder.names():
                raise LocalStackError(
                    f"data folder {self.path}: expected a new or an empty folder, got one that contains other files: "
                    f"{_REMEDY}"
                )
            folder.hide()
            return folder, folder.open_file("lock", os.O_RDWR | os.O_CREAT)
        except BaseException:
            folder.close()
            raise

    def empty_file(self, name: str) -> int:
        """Open a file of the folder for appending, and empty it.

        Args:
            name: Name of the file.

        Returns:
            The descriptor, which the caller closes.

        Raises:
            LocalStackError: There is no folder, or it or the file is not this user's alone.
        """
        with self._opened() as folder:
            if folder is None:
                raise LocalStackError(f"data folder {self.path} does not exist: {_REMEDY}")
            descriptor = folder.open_file(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.ftruncate(descriptor, 0)
        return descriptor

    @contextmanager
    def _opened(self) -> Iterator[PrivateFolder | None]:
        """Open the folder, unless it is locked and therefore open; None if there is none."""
        if self._locked is not None:
            yield self._locked[0]
            return
        folder = PrivateFolder.open(self.path, _REMEDY)
        try:
            yield folder
        finally:
            if folder is not None:
                folder.close()

    def read_settings(self) -> StackSettings | None:
        """Return the settings of the last start; None in a new folder.

        Raises:
            LocalStackError: The folder was written by another version, or `stack.json` is damaged or not this user's.
        """
        content = self._read("stack.json", _REMEDY)
        if content is None:
            return None
        found = content.whole("format", 0, _MAX_PID)
        if found != FORMAT:
            raise LocalStackError(
                f"data folder {self.path}: expected format {FORMAT}, got format {found}: use the version of "
                "trialstream that created it, or another folder with --data"
            )
        ports = content.fields("ports")
        # Earlier versions have written no port of the dashboard.
        names = (*_PORTS, "dashboard") if ports.has("dashboard") else _PORTS
        version = (r"[0-9]+(\.[0-9]+){1,3}[-.A-Za-z0-9]{0,40}", "a version")
        settings = StackSettings(
            kafka=content.text("kafka", *version),
            mongod=content.text("mongod", *version),
            cluster=content.text("cluster", r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", "an id of 22 characters"),
            ports=Ports(**{name: ports.whole(name, 1, 65535) for name in names}),
            prefix=content.text("prefix"),
        )
        try:
            settings.config()
        except ConfigError as error:
            raise LocalStackError(f"{self.path / 'stack.json'}: {error}: {_REMEDY}") from error
        return settings

    def update_settings(self, *, kafka: str, mongod: str, ports: Ports | None, prefix: str | None) -> StackSettings:
        """Check that the installed servers can read the folder, and write the settings of this start.

        Args:
            kafka: Version of the installed Kafka.
            mongod: Version of the installed mongod.
            ports: Ports of the servers; None keeps those of the last start.
            prefix: Name of the topics and of the database; None keeps that of the last start.

        Raises:
            LocalStackError: The folder was written by other versions.
        """
        known = self.read_settings()
        if known is None:
            known = StackSettings(kafka, mongod, _cluster_id(), Ports(), "trialstream")
        for name, installed, writer in (("Kafka", kafka, known.kafka), ("MongoDB", mongod, known.mongod)):
            # Releases that differ only in the last number read each other's data.
            if installed.rpartition(".")[0] != writer.rpartition(".")[0]:
                raise LocalStackError(
                    f"data folder {self.path}: expected data of {name} {installed}, which is installed, got data of "
                    f"{name} {writer}: use the version of trialstream that created it, or another folder with --data"
                )
        settings = StackSettings(kafka, mongod, known.cluster, ports or known.ports, prefix or known.prefix)
        with self._opened() as folder:
            if folder is not None:
                folder.write("stack.json", json.dumps(asdict(settings), indent=1))
        return settings

    def read_record(self) -> LauncherRecord | None:
        """Return the record of the launcher; None if none is running and the last one ended without failure.

        Raises:
            LocalStackError: `run.json` is damaged or not this user's.
        """
        content = self._read("run.json", "if no server of this folder is running, delete the file")
        if content is None:
            return None
        servers = content.fields("servers")
        return LauncherRecord(
            launcher=_process(content.fields("launcher")),
            step=content.text("step"),
            ready=content.flag("ready"),
            servers={name: _process(servers.fields(name)) for name in reversed(_SERVERS) if servers.has(name)},
            error=content.text("error"),
        )

    def write_record(self, record: LauncherRecord | None) -> None:
        """Write the record of the launcher; None deletes it.

        Raises:
            LocalStackError: It could not be written.
        """
        with self._opened() as folder:
            if folder is None:
                return
            if record is None:
                folder.remove("run.json")
            else:
                folder.write("run.json", json.dumps(asdict(record), indent=1))

    def running(self, record: LauncherRecord) -> LauncherRecord | None:
        """Return a record with those of its servers that run; None if its launcher does not run.

        A process runs if it is the one that was recorded, and is a launcher or a server of this folder.

        Args:
            record: The record.
        """
        if not self._is_ours("", record.launcher):
            return None
        servers = {name: each for name, each in record.servers.items() if self._is_ours(name, each)}
        return replace(record, servers=servers)

    def stop_launcher(self, seconds: float) -> bool:
        """Stop the launcher that the record names.

        Args:
            seconds: Time between SIGTERM and SIGKILL.

        Returns:
            Whether it was running.
        """
        record = self.read_record()
        return record is not None and self._is_ours("", record.launcher) and record.launcher.stop(seconds)

    def stop_leftovers(self, seconds: float = 15.0) -> list[str]:
        """Stop the servers of a launcher that was killed; the caller holds the lock.

        Kafka is stopped before MongoDB. A process that is no server of this folder is left alone.

        Args:
            seconds: Time between SIGTERM and SIGKILL for each server.

        Returns:
            Names of the servers that were running.
        """
        record = self.read_record()
        if record is None:
            return []
        servers = {name: record.servers[name] for name in _SERVERS if name in record.servers}
        stopped = [name for name, each in servers.items() if self._is_ours(name, each) and each.stop(seconds)]
        if stopped:
            self.write_record(LauncherRecord(record.launcher, error=record.error))
        return stopped

    def stop_leftovers_if_unlocked(self) -> list[str]:
        """Stop the servers of a launcher that was killed; does nothing while a launcher holds the lock.

        Returns:
            Names of the servers that were running.
        """
        if self.read_record() is None or not self.try_lock():
            return []
        try:
            return self.stop_leftovers()
        finally:
            self.unlock()

    def _is_ours(self, name: str, process: ProcessId) -> bool:
        """Whether a recorded process is running and is a launcher (no name) or a server of this folder.

        It has the recorded pid and start time, belongs to this user, and holds a file of this folder open: its log, or,
        of a launcher, the lock. A server also has the command line of its kind.
        """
        file, words = _SERVERS[name] if name else ("lock", ())
        with self._opened() as folder:
            if folder is None or not set(words) <= set(process.command()):
                return False
            return any(folder.is_file_at(file, path) for path in process.open_files())

    def _read(self, name: str, remedy: str) -> Fields | None:
        with self._opened() as folder:
            content = None if folder is None else folder.read(name, _MAX_JSON_BYTES)
        return None if content is None else Fields.of(self.path / name, content, remedy)


def _process(fields: Fields) -> ProcessId:
    return ProcessId(fields.whole("pid", 1, _MAX_PID), fields.seconds("created"))


def _cluster_id() -> str:
    """Return a random id of 22 characters, like Kafka's own, without a leading dash: the command line needs that."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()).startswith("-"):
        pass
    return text
