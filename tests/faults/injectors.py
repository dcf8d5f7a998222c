"""Faults of servers and consumers: killed, paused, stepped down, cut off by a proxy."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from anyio.to_thread import run_sync
from proxy import Proxy
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from service_support import until
from trialstream.config import Config
from trialstream_console.local import LocalStack, binaries
from trialstream_console.local.consumer import ConsumerService
from trialstream_console.local.kafka import KafkaServer
from trialstream_console.local.mongo import is_primary
from trialstream_console.local.ports import HOST, Ports
from trialstream_console.local.server import Server


@asynccontextmanager
async def killed(server: Server) -> AsyncIterator[None]:
    """SIGKILL; it is started again when the block is left."""
    await run_sync(server.kill)
    try:
        yield
    finally:
        await run_sync(server.start)


@contextmanager
def paused(server: Server) -> Iterator[None]:
    """SIGSTOP: connections stay open and nobody answers; it goes on when the block is left."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


async def step_down(stack: LocalStack, seconds: int = 2) -> None:
    """Make MongoDB's primary a secondary for so long; returns when it is primary again, which it becomes by itself."""

    def give_up() -> None:
        with MongoClient(HOST, stack.mongo.ports.mongo, directConnection=True) as client:
            command = {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": True}
            try:
                client.admin.command(command)
            except PyMongoError:  # it may close the connection as it goes
                assert not is_primary(stack.mongo.ports.mongo)

    await run_sync(give_up)
    await until(lambda: is_primary(stack.mongo.ports.mongo), 60)


# --- Network


@contextmanager
def mongo_through_proxy(config: Config, stack: LocalStack) -> Iterator[tuple[Config, Proxy]]:
    """Settings that lead to MongoDB through a proxy; a driver that looks for the set would go past it."""
    with Proxy(stack.mongo.ports.mongo) as proxy:
        yield replace(config, mongo=f"mongodb://{proxy.address}/?directConnection=true"), proxy


class ProxiedKafka(KafkaServer):
    """A broker with a second listener, whose clients are told to come through a proxy.

    Attributes:
        proxied: `host:port` of the proxy, to be given to clients.
        proxy_port: Where the proxy has to listen.
        behind: Port of that listener: the proxy's target.
    """

    def __init__(self, folder: Path) -> None:
        more = Ports.free()
        self.proxy_port, self.behind = more.kafka, more.controller
        super().__init__(folder, Ports.free(), "faults0000000000000000", binaries.kafka_class_path(lambda *_: None))

    @property
    def proxied(self) -> str:
        """Where clients find it."""
        return f"{HOST}:{self.proxy_port}"

    def _prepare(self) -> None:
        super()._prepare()
        ports = self.ports
        # The last line of a name counts.
        lines = [
            f"listeners=BROKER://{HOST}:{ports.kafka},CONTROLLER://{HOST}:{ports.controller},VIA://{HOST}:{self.behind}",
            f"advertised.listeners=BROKER://{HOST}:{ports.kafka},VIA://{HOST}:{self.proxy_port}",
            "listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,VIA:PLAINTEXT",
        ]
        with (self.folder / "kafka.properties").open("a") as properties:
            properties.write("\n".join([*lines, ""]))


# --- Consumers


class DyingConsumer(ConsumerService):
    """A consumer that kills itself with SIGKILL at one of its steps: see `dying_consumer.py`.

    Args:
        folder: For its log.
        config: Its settings.
        point: The step.
        passes: How often it comes through there before.
    """

    def __init__(self, folder: Path, config: Config, point: str, passes: int) -> None:
        super().__init__(folder, config)
        self._arguments = [point, str(passes)]

    def _poll_startup(self) -> bool:
        """Whether it is ready, or dead already."""
        return super()._poll_startup() or not self.running

    async def dies(self, seconds: float = 30.0) -> None:
        """Wait until it has killed itself."""
        await until(lambda: not self.running, seconds)
        assert self._process is not None
        assert self._process.returncode == -signal.SIGKILL, self.failure

    @property
    def failure(self) -> str:
        """Its death is what is wanted: only another end is one to report."""
        killed = self._process is not None and self._process.poll() == -signal.SIGKILL
        return "" if killed else super().failure

    def _command(self):
        return [sys.executable, str(Path(__file__).with_name("dying_consumer.py")), *self._arguments]

    def _environment(self):
        return {**super()._environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
