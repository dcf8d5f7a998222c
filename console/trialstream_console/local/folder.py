"""The data folder of a local stack.

lock                 locked (flock) by the launcher for its lifetime
stack.json           `StackSettings`: format, versions, ports; kept between starts
run.json             `LauncherRecord`: launcher, step, servers; left behind if the launcher is killed or fails
kafka/  mongo/       data of the servers
*.log                one log file for each process
"""

from __future__ import annotations

import fcntl
import json
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from trialstream.config import Config

from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.ports import Ports
from trialstream_console.local.process import ProcessId

__all__ = ["FORMAT", "DataFolder", "LauncherRecord", "StackSettings"]

FORMAT = 1
"""Version of the folder's layout; increased when older code cannot read a new folder, or newer code an old one."""

_LOCK_SECONDS = 1.0  # `status` and `down` hold the lock for a moment


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
        self._lock: IO[str] | None = None

    def create(self) -> None:
        """Create the folder if it does not exist, and its lock file, which marks it as a data folder.

        Raises:
            LocalStackError: The folder could not be created, or contains other files.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "lock").exists() and any(self.path.iterdir()):
                raise LocalStackError(
                    f"data folder {self.path}: expected a new or an empty folder, got one that contains other files: "
                    "choose another folder with --data"
                )
            (self.path / "lock").touch()
        except OSError as error:
            raise LocalStackError(
                f"data folder {self.path} cannot be used ({error.strerror}): choose another folder with --data"
            ) from error

    def try_lock(self) -> bool:
        """Lock the folder for this launcher; return False if another launcher holds the lock.

        Raises:
            LocalStackError: The folder could not be created, or contains other files.
        """
        self.create()
        lock = (self.path / "lock").open("w")
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    lock.close()
                    return False
                time.sleep(0.05)
            else:
                self._lock = lock
                return True

    def unlock(self) -> None:
        """Release the lock; does nothing if this object does not hold it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read_settings(self) -> StackSettings | None:
        """Return the settings of the last start; None in a new folder.

        Raises:
            LocalStackError: The folder was written by another version, or `stack.json` is damaged.
        """
        content = self._read("stack.json")
        if content is None:
            return None
        if content.get("format") != FORMAT:
            raise LocalStackError(
                f"data folder {self.path}: expected format {FORMAT}, got format {content.get('format')}: use the "
                "version of trialstream that created it, or another folder with --data"
            )
        return StackSettings(**{**content, "ports": Ports(**content["ports"])})

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
        self._write("stack.json", asdict(settings))
        return settings

    def read_record(self) -> LauncherRecord | None:
        """Return the record of the launcher; None if none is running and the last one ended without failure."""
        content = self._read("run.json")
        if content is None:
            return None
        servers = {name: ProcessId(**each) for name, each in content["servers"].items()}
        return LauncherRecord(**{**content, "launcher": ProcessId(**content["launcher"]), "servers": servers})

    def write_record(self, record: LauncherRecord | None) -> None:
        """Write the record of the launcher; None deletes it."""
        if record is None:
            (self.path / "run.json").unlink(missing_ok=True)
        else:
            self._write("run.json", asdict(record))

    def stop_leftovers(self, seconds: float = 15.0) -> list[str]:
        """Stop the servers of a launcher that was killed; the caller holds the lock.

        Kafka is stopped before MongoDB. A process with a recorded pid and another start time is left alone.

        Args:
            seconds: Time between SIGTERM and SIGKILL for each server.

        Returns:
            Names of the servers that were running.
        """
        record = self.read_record()
        if record is None:
            return []
        order: list[str] = [name for name in ("consumer", "kafka", "mongod") if name in record.servers]
        stopped = [name for name in order if record.servers[name].stop(seconds)]
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

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise LocalStackError(
                f"{self.path / name} cannot be read ({error}): choose another folder with --data"
            ) from error
        return content

    def _write(self, name: str, content: dict[str, Any]) -> None:
        new = self.path / f".{name}.new"
        new.write_text(json.dumps(content, indent=1))
        new.replace(self.path / name)


def _cluster_id() -> str:
    """Return a random id of 22 characters, like Kafka's own, without a leading dash: the command line needs that."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()).startswith("-"):
        pass
    return text
