"""Kafka, MongoDB and the consumer on this machine: one object for the command line, the tests and the demo."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from anyio.from_thread import start_blocking_portal
from trialstream.config import Config
from trialstream.log.topics import ensure_topics
from trialstream_consumer.projection.indexes import ensure_indexes

from trialstream_console.local import parts
from trialstream_console.local.consumer import ConsumerService
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.folder import DataFolder, Run
from trialstream_console.local.kafka import KafkaServer
from trialstream_console.local.mongo import MongoServer
from trialstream_console.local.ports import Ports
from trialstream_console.local.process import ProcessId
from trialstream_console.local.server import Server

__all__ = ["LocalStack"]


def _silent(_step: str, _detail: str) -> None:
    """Tell nobody."""


class LocalStack:
    """The servers, as child processes of this one; a context manager that starts and stops them.

        with LocalStack() as stack:
            anyio.run(train, stack.config)

    All methods block: in a coroutine, call them by `anyio.to_thread.run_sync`.

    Attributes:
        config: Settings that lead to the servers.
        kafka: The broker; can be killed, stopped and started by itself.
        mongo: mongod; likewise.
        consumer: The consumer service; likewise. It is started with the stack unless `consumer=False` was given.
        servers: All of them, in the order of their start.
    """

    config: Config
    kafka: KafkaServer
    mongo: MongoServer
    consumer: ConsumerService

    def __init__(
        self,
        data: Path | None = None,
        *,
        consumer: bool = True,
        ports: Ports | None = None,
        prefix: str | None = None,
        partitions: int = 8,
        progress: parts.Progress = _silent,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            data: Folder for data and logs. None takes a temporary one, removed at the end, and free ports.
            consumer: Whether to create the topics and indexes and run the consumer, or only the two servers.
            ports: Where to listen; None means as the last time in this folder, at first 9092, 9093 and 27017.
            prefix: Name of the topics and the database; None means as the last time, at first `trialstream`.
            partitions: Partition count of the trials topic when it is created.
            progress: Told each step of the start.
        """
        self._temporary = data is None
        if data is None:
            data = Path(tempfile.gettempdir()) / f"trialstream-{uuid.uuid4().hex[:12]}"
            ports = ports or Ports.free()
        self.folder = DataFolder(data)
        self.servers: list[Server] = []
        self._with_consumer = consumer
        self._ports = ports
        self._prefix = prefix
        self._partitions = partitions
        self._progress = progress
        self._run: Run | None = None
        self._step = ""

    def start(self) -> None:
        """Start everything; returns when all of it is ready, and leaves nothing behind when it raises.

        Raises:
            LocalStackError: a part is missing, the folder is in use or of another version, a port is taken, a server
                does not start.
        """
        if self._run is not None:
            return
        parts.check()
        if not self.folder.acquire():
            raise LocalStackError(
                f"another trialstream runs on {self.folder.path}: trialstream status, trialstream down"
            )
        try:
            self._start()
        except BaseException as error:
            self._stop(str(error))
            raise

    def stop(self, *, error: str = "") -> None:
        """Stop everything in order: the consumer, Kafka, MongoDB; each is killed when it takes too long.

        Args:
            error: Why, when that is to be remembered in the folder for `trialstream status`.
        """
        self._stop(error, self._progress)

    def died(self) -> str:
        """Which server ended without being asked to, with the end of its log; empty when none did."""
        return next((server.died for server in self.servers if server.died), "")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        left = self.folder.stop_leftovers()
        launcher = ProcessId.of(os.getpid())
        assert launcher is not None
        self._run = Run(launcher)
        if left:
            self._report("Stopped what an earlier run had left behind", ", ".join(left))
        settings = self.folder.open(
            kafka=parts.KAFKA_VERSION, mongod=parts.mongod_version(), ports=self._ports, prefix=self._prefix
        )
        class_path = parts.kafka_class_path(self._report)
        folder, ports = self.folder.path, settings.ports
        self.mongo = MongoServer(folder, ports)
        self.kafka = KafkaServer(folder, ports, settings.cluster, class_path)
        self.config = settings.config(self._partitions)
        self.consumer = ConsumerService(folder, self.config)
        self.servers = [self.mongo, self.kafka, self.consumer]
        for server in self.servers:
            server.changed = self._record
        self._report(f"Starting MongoDB {settings.mongod}")
        self.mongo.start()
        self._report(f"Starting Kafka {settings.kafka}")
        self.kafka.start()
        if self._with_consumer:
            self._report("Creating topics and indexes")
            with start_blocking_portal() as portal:  # the caller's thread may already run an event loop
                portal.call(_create, self.config)
            self._report(f"Starting {self.consumer.title}")
            self.consumer.start()
        self._run = Run(self._run.launcher, ready=True)
        self._report("")

    def _stop(self, error: str, progress: parts.Progress = _silent) -> None:
        try:
            for server in reversed(self.servers):
                if server.running:
                    with suppress(OSError):  # the terminal may be gone
                        progress(f"Stopping {server.title}", "")
                server.stop()
            with suppress(OSError):
                progress("", "")
        finally:
            for server in self.servers:
                server.kill()
            if self._run is not None:
                self.folder.record(Run(self._run.launcher, error=error) if error else None)
            self._run = None
            self.folder.release()
            if self._temporary:
                shutil.rmtree(self.folder.path, ignore_errors=True)

    def _report(self, step: str, detail: str = "") -> None:
        self._progress(step, detail)
        self._step = f"{step}: {detail}" if detail else step
        self._record()

    def _record(self) -> None:
        if self._run is None:
            return
        pids = {server.name: ProcessId.of(server.pid) for server in self.servers if server.running}
        alive = {name: process for name, process in pids.items() if process is not None}
        self._run = Run(self._run.launcher, self._step, self._run.ready, alive)
        self.folder.record(self._run)


async def _create(config: Config) -> None:
    await ensure_topics(config)
    await ensure_indexes(config)
