"""Faults of servers and consumers: kill, pause, step-down, and interruption by a proxy."""

from __future__ import annotations

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
from service_support import WarmConsumer, until
from trialstream.config import Config
from trialstream_console.local import LocalStack, binaries
from trialstream_console.local.kafka import KafkaServer
from trialstream_console.local.mongo import is_primary
from trialstream_console.local.ports import HOST, Ports
from trialstream_console.local.server import Server


@asynccontextmanager
async def killed(server: Server) -> AsyncIterator[None]:
    """Kill a server (SIGKILL), and start it again when the block is left."""
    await run_sync(server.kill)
    try:
        yield
    finally:
        await run_sync(server.start)


async def step_down(stack: LocalStack, seconds: int = 2) -> None:
    """Step MongoDB's primary down for some seconds, and wait until it has become primary again by itself."""

    def request_step_down() -> None:
        with MongoClient(HOST, stack.mongo.ports.mongo, directConnection=True) as client:
            command = {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": True}
            try:
                client.admin.command(command)
            except PyMongoError:  # MongoDB may close the connection as it steps down
                assert not is_primary(stack.mongo.ports.mongo)

    await run_sync(request_step_down)
    await until(lambda: is_primary(stack.mongo.ports.mongo), 60)


# --- Network


@contextmanager
def mongo_through_proxy(config: Config, stack: LocalStack) -> Iterator[tuple[Config, Proxy]]:
    """Yield settings that reach MongoDB through a proxy; directConnection keeps the driver from bypassing it."""
    with Proxy(stack.mongo.ports.mongo) as proxy:
        yield replace(config, mongo=f"mongodb://{proxy.address}/?directConnection=true"), proxy


class ProxiedKafka(KafkaServer):
    """A broker with a second listener, which it advertises at the address of a proxy.

    Attributes:
        proxied: `host:port` of the proxy, the address for clients.
        proxy_port: Port on which the proxy must listen.
        behind: Port of the second listener: the proxy's target.
    """

    def __init__(self, folder: Path) -> None:
        more = Ports.free()
        self.proxy_port, self.behind = more.kafka, more.controller
        super().__init__(folder, Ports.free(), "faults0000000000000000", binaries.kafka_class_path(lambda *_: None))

    @property
    def proxied(self) -> str:
        """Address of the proxy, for clients."""
        return f"{HOST}:{self.proxy_port}"

    def _prepare(self) -> None:
        super()._prepare()
        ports = self.ports
        # The last line of a property wins.
        lines = [
            f"listeners=BROKER://{HOST}:{ports.kafka},CONTROLLER://{HOST}:{ports.controller},VIA://{HOST}:{self.behind}",
            f"advertised.listeners=BROKER://{HOST}:{ports.kafka},VIA://{HOST}:{self.proxy_port}",
            "listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,VIA:PLAINTEXT",
        ]
        with (self.folder / "kafka.properties").open("a") as properties:
            properties.write("\n".join([*lines, ""]))


# --- Consumers


class DyingConsumer(WarmConsumer):
    """A consumer that kills itself with SIGKILL at one of its steps: see `dying_consumer.py`.

    Args:
        folder: Folder of its log.
        config: Settings.
        point: Step at which it kills itself.
        passes: Number of passes through that step before.
    """

    def __init__(self, folder: Path, config: Config, point: str, passes: int) -> None:
        super().__init__(folder, config)
        self._arguments = [point, str(passes)]

    def _poll_startup(self) -> bool:
        """Return whether it is ready or has died already."""
        return super()._poll_startup() or not self.running

    async def wait_killed(self, seconds: float = 30.0) -> None:
        """Wait until it has killed itself."""
        await until(lambda: not self.running, seconds)
        assert self._process is not None
        assert self._process.returncode == -signal.SIGKILL, self.failure

    @property
    def failure(self) -> str:
        """Reason of a failed start; empty if it killed itself as intended."""
        killed = self._process is not None and self._process.poll() == -signal.SIGKILL
        return "" if killed else super().failure

    def _command(self):
        return [sys.executable, str(Path(__file__).with_name("dying_consumer.py")), *self._arguments]
