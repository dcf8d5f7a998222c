"""Fixtures on the real servers: one stack for the session, fresh topics and a fresh database for each test."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from distribution import pytest_xdist_make_scheduler  # noqa: F401 - a hook
from pymongo import MongoClient
from service_support import WarmConsumer
from trialstream.config import Config
from trialstream_console.local import LocalStack
from trialstream_console.local.consumer import ConsumerService


def pytest_configure(config):
    """Let child processes begin with default signals, also under `nohup` and in the background of a script.

    A child inherits ignored signals, but not handled ones. Then a test that ends a child by Ctrl-C would wait forever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # still without effect on the tests themselves


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector, name, obj):
    """Run every coroutine test through anyio, without a mark on each test."""
    if name.startswith("test") and inspect.iscoroutinefunction(inspect.unwrap(obj)):
        pytest.mark.anyio(obj)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run on asyncio, the only event loop that aiokafka and motor support."""
    return "asyncio"


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    """Kafka and MongoDB in a temporary folder on free ports, started by the first test that uses them."""
    with LocalStack(consumer=False) as stack:
        yield stack


@pytest.fixture(scope="session", autouse=True)
def _spools(tmp_path_factory) -> Iterator[None]:
    """Put the spools of the tests and of their child processes into a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIALSTREAM_SPOOL_DIR", str(tmp_path_factory.mktemp("spool")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory) -> Iterator[None]:
    """Let child processes share compiled modules, where Python would compile them in each of a thousand children."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.dont_write_bytecode:
            patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_java() -> Iterator[None]:
    """Let Kafka start in half the processor time: it runs for minutes, too short for the second compiler of Java."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC", prepend=" ")
        yield


@pytest.fixture
def config(stack: LocalStack, tmp_path) -> Iterator[Config]:
    """A configuration with a prefix of its own: each test has fresh topics and a fresh database.

    They are removed after the test: with those of a hundred tests, a restart of a killed server takes half a minute.
    """
    revive(stack)
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    config = Config(
        kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix=prefix, partitions=4, spool_dir=str(tmp_path / "spool")
    )
    yield config
    revive(stack)
    asyncio.run(_delete_topics(config))
    with MongoClient(config.mongo) as client:
        for name in client.list_database_names():
            if name.startswith(prefix):
                client.drop_database(name)


def revive(stack: LocalStack) -> None:
    """Start and resume the servers: a failed test of faults may have left one dead or paused."""
    for server in stack.servers[:2]:
        if server.running:
            server.signal(signal.SIGCONT)
        server.start()


async def _delete_topics(config: Config) -> None:
    client = AIOKafkaAdminClient(**config.kafka_client())
    await client.start()
    try:
        found = [each for each in await client.list_topics() if each.startswith(config.prefix)]
        if found:
            await client.delete_topics(found)
    finally:
        await client.close()


@pytest.fixture
def consumer(tmp_path_factory) -> Iterator[Callable[[Config], ConsumerService]]:
    """Start a consumer process for a configuration and wait until it is ready; stop it after the test.

    The returned service has `pid`, `running`, `log`, `stop()` (SIGTERM), `kill()` (SIGKILL) and `start()`.
    """
    started: list[ConsumerService] = []

    def start(config: Config) -> ConsumerService:
        service = WarmConsumer(tmp_path_factory.mktemp("consumer"), config)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()
