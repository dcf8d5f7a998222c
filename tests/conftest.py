"""Fixtures on the real servers: one stack for the session, fresh topics and a fresh database for each test."""

from __future__ import annotations

import inspect
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest
from trialstream.config import Config
from trialstream_console.local import LocalStack
from trialstream_console.local.consumer import ConsumerService


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector, name, obj):
    """Run every coroutine test by anyio, without a mark on each."""
    if name.startswith("test") and inspect.iscoroutinefunction(inspect.unwrap(obj)):
        pytest.mark.anyio(obj)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run on asyncio: aiokafka and motor know no other."""
    return "asyncio"


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    """Kafka and MongoDB in a temporary folder on free ports, started by the first test that asks."""
    with LocalStack(consumer=False) as stack:
        yield stack


@pytest.fixture(scope="session", autouse=True)
def _spools(tmp_path_factory) -> Iterator[None]:
    """What tests spool goes to a temporary folder, in their child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIALSTREAM_SPOOL_DIR", str(tmp_path_factory.mktemp("spool")))
        yield


@pytest.fixture
def config(stack: LocalStack, tmp_path) -> Config:
    """Settings with a prefix of its own: no topic and no database of another test is seen."""
    for server in stack.servers[:2]:
        if server.running:
            server.signal(signal.SIGCONT)
        server.start()  # a fault test that failed may have left it dead or paused
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    return Config(
        kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix=prefix, partitions=4, spool_dir=str(tmp_path / "spool")
    )


@pytest.fixture
def consumer(tmp_path_factory) -> Iterator[Callable[[Config], ConsumerService]]:
    """Start a consumer process for a configuration; returns when it is ready, and ends it after the test.

    What is returned has `pid`, `running`, `log`, `stop()` (SIGTERM), `kill()` (SIGKILL) and `start()`.
    """
    started: list[ConsumerService] = []

    def start(config: Config) -> ConsumerService:
        service = ConsumerService(tmp_path_factory.mktemp("consumer"), config)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()
