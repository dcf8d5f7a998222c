"""`LocalStack`: Kafka, MongoDB and the consumer on this machine, for the command line, the tests and the demo."""

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
from trialstream.event_log.topics import ensure_topics
from trialstream_consumer.projection.indexes import ensure_indexes

from trialstream_console.local import binaries
from trialstream_console.local.consumer import ConsumerService
from trialstream_console.local.dashboard import DashboardService
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.folder import DataFolder, LauncherRecord
from trialstream_console.local.granting import grant_all
from trialstream_console.local.kafka import KafkaServer
from trialstream_console.local.mongo import MongoServer
from trialstream_console.local.ports import Ports
from trialstream_console.local.process import ProcessId
from trialstream_console.local.security import Security
from trialstream_console.local.server import Server
from trialstream_console.local.steps import StepReport, ignore_steps

__all__ = ["LocalStack"]


class LocalStack:
    """The servers as child processes of this process; a context manager that starts and stops them.

        with LocalStack() as stack:
            anyio.run(train, stack.config)

    All methods block: in a coroutine, call them through `anyio.to_thread.run_sync`.

    Attributes:
        config: Configuration of clients of these servers.
        kafka: The broker; can be killed, stopped and started separately.
        mongo: The mongod; can be killed, stopped and started separately.
        consumer: The consumer service; can be controlled in the same way; not started if `consumer=False` is given.
        dashboard: The dashboard; started if `dashboard=True` is given. The stack runs on if it dies.
        servers: All servers in the order of their start; empty before the first start.
        folder: The data folder.
        security: The secrets of a secured stack, with the settings of each role; None for a plain one.
    """

    config: Config
    kafka: KafkaServer
    mongo: MongoServer
    consumer: ConsumerService
    dashboard: DashboardService

    def __init__(
        self,
        data: Path | None = None,
        *,
        consumer: bool = True,
        dashboard: bool = False,
        ports: Ports | None = None,
        prefix: str | None = None,
        partitions: int = 8,
        secure: bool = False,
        on_step: StepReport = ignore_steps,
    ) -> None:
        """Initialize the stack; `start` starts the servers.

        Args:
            data: Folder for data and logs. None: a temporary folder, which `stop` removes, and free ports.
            consumer: Whether to create the topics and indexes and start the consumer. False: only Kafka and MongoDB.
            dashboard: Whether to start the dashboard, too.
            ports: Ports of the servers. None: those of the last start in this folder, initially 9092, 9093, 27017 and
                8790.
            prefix: Name of the topics and the database. None: that of the last start, initially `trialstream`.
            partitions: Partition count of the trials topic when it is created.
            secure: Whether the servers encrypt, and demand logins and rights; so do they if they did at the last start.
                `config` is then that of the launcher, which may do anything.
            on_step: Called with each step of starting and stopping.
        """
        self._temporary = data is None
        if data is None:
            data = Path(tempfile.gettempdir()) / f"trialstream-{uuid.uuid4().hex[:12]}"
            ports = ports or Ports.free()
        self.folder = DataFolder(data)
        self.servers: list[Server] = []
        self.security: Security | None = None
        self._secure = secure
        self._with_consumer = consumer
        self._with_dashboard = dashboard
        self._ports = ports
        self._prefix = prefix
        self._partitions = partitions
        self._on_step = on_step
        self._record: LauncherRecord | None = None
        self._step = ""

    def start(self) -> None:
        """Start all servers and return when they are ready; on an exception no server keeps running.

        Raises:
            LocalStackError: A package is missing, the folder is in use or was written by another version, a port is in
                use, or a server did not start.
        """
        if self._record is not None:
            return
        binaries.check()
        if not self.folder.try_lock():
            raise LocalStackError(
                f"data folder {self.folder.path} is in use by another launcher: see `trialstream status`, stop it with "
                "`trialstream down`"
            )
        try:
            self._start()
        except BaseException as error:
            self._stop(str(error))
            raise

    def stop(self, *, error: str = "") -> None:
        """Stop the consumer, Kafka and MongoDB in this order; a server is killed after its `stop_seconds`.

        Args:
            error: Failure because of which the stack stops, recorded for `trialstream status`; empty if there is none.
        """
        self._stop(error, self._on_step)

    def failure(self) -> str:
        """Return which server ended unexpectedly, with the end of its log; empty if none did but the dashboard."""
        needed = [server for server in self.servers if server is not self.dashboard]
        return next((server.failure for server in needed if server.failure), "")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        leftovers = self.folder.stop_leftovers()
        launcher = ProcessId.of(os.getpid())
        assert launcher is not None
        self._record = LauncherRecord(launcher)
        if leftovers:
            self._report("Stopped servers left behind by a killed launcher", ", ".join(leftovers))
        self.security = self._secrets()
        settings = self.folder.update_settings(
            kafka=binaries.KAFKA_VERSION, mongod=binaries.mongod_version(), ports=self._ports, prefix=self._prefix
        )
        class_path = binaries.kafka_class_path(self._report)
        folder, ports = self.folder.path, settings.ports
        self.mongo = MongoServer(folder, ports, self.security)
        self.kafka = KafkaServer(folder, ports, settings.cluster, class_path, self.security)
        self.config = consumers = readers = settings.config(self._partitions)
        if self.security is not None:
            self.config = self.security.launcher(self.config, ports)
            consumers = self.security.config("consume", self.config, ports)
            readers = self.security.config("dashboard", self.config, ports)
        self.consumer = ConsumerService(folder, consumers)
        self.dashboard = DashboardService(folder, readers, ports.dashboard)
        self.servers = [self.mongo, self.kafka, self.consumer, self.dashboard]
        for server in self.servers:
            server.on_change = self._write_record
        self._report(f"Starting MongoDB {settings.mongod}")
        self.mongo.start()
        self._report(f"Starting Kafka {settings.kafka}")
        self.kafka.start()
        if self.security is not None:
            self._report("Granting the rights of the roles")
            with start_blocking_portal() as portal:  # the caller's thread may already run an event loop
                portal.call(grant_all, self.security, self.config)
        if self._with_consumer:
            self._report("Creating topics and indexes")
            with start_blocking_portal() as portal:
                portal.call(_create_topics_and_indexes, self.config)
            self._report(f"Starting {self.consumer.title}")
            self.consumer.start()
        if self._with_dashboard:
            self._report(f"Starting {self.dashboard.title}")
            self.dashboard.start()
        self._record = LauncherRecord(launcher, ready=True)
        self._report("")

    def _secrets(self) -> Security | None:
        security = Security(self.folder.path)
        if not security.exists:
            if not self._secure:
                return None
            if self.folder.read_settings() is not None:
                raise LocalStackError(
                    f"data folder {self.folder.path}: expected a new folder for secured servers, got one of servers "
                    "without logins: choose another folder with --data"
                )
            self._report("Making certificates and passwords")
            security.create()
        return security

    def _stop(self, error: str, on_step: StepReport = ignore_steps) -> None:
        try:
            for server in reversed(self.servers):
                if server.running:
                    with suppress(OSError):  # the terminal may be gone
                        on_step(f"Stopping {server.title}", "")
                server.stop()
            with suppress(OSError):
                on_step("", "")
        finally:
            for server in self.servers:
                server.kill()
            if self._record is not None:
                self.folder.write_record(LauncherRecord(self._record.launcher, error=error) if error else None)
            self._record = None
            self.folder.unlock()
            if self._temporary:
                shutil.rmtree(self.folder.path, ignore_errors=True)

    def _report(self, step: str, detail: str = "") -> None:
        self._on_step(step, detail)
        self._step = f"{step}: {detail}" if detail else step
        self._write_record()

    def _write_record(self) -> None:
        if self._record is None:
            return
        pids = {server.name: ProcessId.of(server.pid) for server in self.servers if server.running}
        alive = {name: process for name, process in pids.items() if process is not None}
        self._record = LauncherRecord(self._record.launcher, self._step, self._record.ready, alive)
        self.folder.write_record(self._record)


async def _create_topics_and_indexes(config: Config) -> None:
    await ensure_topics(config)
    await ensure_indexes(config)
