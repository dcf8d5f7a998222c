"""The data folder: whose it is, what wrote it, and which processes run on it.

lock                 held (flock) by the launcher as long as it lives
stack.json           format, versions, ports: what stays
run.json             launcher, step, servers: what runs now, or was left behind
kafka/  mongo/       the servers' data
*.log                one per process
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

__all__ = ["FORMAT", "DataFolder", "Run", "Settings"]

FORMAT = 1
"""Raised when a folder written by this code cannot be read by the code before it, or the other way round."""


_LOCK_SECONDS = 1.0  # `status` and `down` hold the lock for a moment


@dataclass(frozen=True)
class Settings:
    """What `stack.json` keeps.

    Attributes:
        kafka: Version of the Kafka that wrote the folder.
        mongod: Version of the mongod that wrote it.
        cluster: Kafka's cluster id.
        ports: Where the servers listened last, and listen next time if nothing else is asked for.
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
        """Settings that lead to the servers."""
        kafka, mongo = self.ports.kafka_address, self.ports.mongo_uri
        return Config(kafka=kafka, mongo=mongo, prefix=self.prefix, partitions=partitions)


@dataclass(frozen=True)
class Run:
    """What `run.json` says of the present or the last run.

    Attributes:
        launcher: The process that started the servers.
        step: What it was doing.
        ready: Whether everything was up.
        servers: The servers' processes by name.
        error: Why the run ended, when it did not end in good order.
    """

    launcher: ProcessId
    step: str = ""
    ready: bool = False
    servers: dict[str, ProcessId] = field(default_factory=dict)
    error: str = ""


class DataFolder:
    """One folder; at most one launcher works on it at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Create the folder if need be, and mark it as one of ours.

        Raises:
            LocalStackError: it cannot be made, or belongs to something else.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "lock").exists() and any(self.path.iterdir()):
                raise LocalStackError(f"{self.path} holds other files: name an empty or a new folder with --data")
            (self.path / "lock").touch()
        except OSError as error:
            raise LocalStackError(f"{self.path} cannot be used ({error.strerror}): name another --data") from error

    def acquire(self) -> bool:
        """Become the folder's launcher; False when another one is at work.

        Raises:
            LocalStackError: as `claim`.
        """
        self.claim()
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

    def release(self) -> None:
        """Let others become its launcher."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def settings(self) -> Settings | None:
        """What was recorded at the last start; None in a new folder.

        Raises:
            LocalStackError: the folder was written by another version.
        """
        content = self._read("stack.json")
        if content is None:
            return None
        if content.get("format") != FORMAT:
            raise LocalStackError(
                f"{self.path} has format {content.get('format')}, this version of trialstream reads {FORMAT}: "
                "use the version that made it, or another --data"
            )
        return Settings(**{**content, "ports": Ports(**content["ports"])})

    def open(self, *, kafka: str, mongod: str, ports: Ports | None, prefix: str | None) -> Settings:
        """Check that these servers can read the folder, and record them; None means as the last time.

        Raises:
            LocalStackError: the folder was written by other versions.
        """
        known = self.settings()
        if known is None:
            known = Settings(kafka, mongod, _cluster_id(), Ports(), "trialstream")
        for name, mine, other in (("Kafka", kafka, known.kafka), ("MongoDB", mongod, known.mongod)):
            # Releases that differ in the last number only read each other's data.
            if mine.rpartition(".")[0] != other.rpartition(".")[0]:
                raise LocalStackError(
                    f"{self.path} was written by {name} {other}, installed is {mine}: "
                    "use the version of trialstream that made it, or another --data"
                )
        settings = Settings(kafka, mongod, known.cluster, ports or known.ports, prefix or known.prefix)
        self._write("stack.json", asdict(settings))
        return settings

    def run(self) -> Run | None:
        """The present or the last run; None when the last one ended in good order."""
        content = self._read("run.json")
        if content is None:
            return None
        servers = {name: ProcessId(**each) for name, each in content["servers"].items()}
        return Run(**{**content, "launcher": ProcessId(**content["launcher"]), "servers": servers})

    def record(self, run: Run | None) -> None:
        """Write down what runs; None when nothing does."""
        if run is None:
            (self.path / "run.json").unlink(missing_ok=True)
        else:
            self._write("run.json", asdict(run))

    def clean(self) -> list[str]:
        """`stop_leftovers`, unless a launcher is at work on the folder."""
        if self.run() is None or not self.acquire():
            return []
        try:
            return self.stop_leftovers()
        finally:
            self.release()

    def stop_leftovers(self, seconds: float = 15.0) -> list[str]:
        """Stop the servers that a launcher left behind when it was killed.

        Kafka before MongoDB; a process with a recorded pid that began at another time is not ours and is left alone.

        Returns:
            The names of those that still ran.
        """
        run = self.run()
        if run is None:
            return []
        order: list[str] = [name for name in ("consumer", "kafka", "mongod") if name in run.servers]
        stopped = [name for name in order if run.servers[name].stop(seconds)]
        if stopped:
            self.record(Run(run.launcher, error=run.error))
        return stopped

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise LocalStackError(f"{self.path / name} cannot be read ({error}): use another --data") from error
        return content

    def _write(self, name: str, content: dict[str, Any]) -> None:
        new = self.path / f".{name}.new"
        new.write_text(json.dumps(content, indent=1))
        new.replace(self.path / name)


def _cluster_id() -> str:
    """22 characters, as Kafka makes them; not with a leading dash, which its command line takes for an option."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()).startswith("-"):
        pass
    return text
