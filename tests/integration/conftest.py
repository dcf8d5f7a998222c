"""Fixtures of the Protocol's tests: one log with one consumer for all of them; each test uses names of its own."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import trialstream as ts
from contract import connected
from service_support import WarmConsumer, caught_up
from test_consumer_rebuild import write_all
from trialstream_console.local import LocalStack


@pytest.fixture(scope="session")
def shared_log(stack: LocalStack) -> ts.Config:
    """Configuration of a log that many tests share."""
    prefix = f"protocol-{uuid.uuid4().hex[:12]}"
    return ts.Config(kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix=prefix, partitions=4)


@pytest.fixture(scope="module")
def served(shared_log: ts.Config, tmp_path_factory) -> Iterator[ts.Config]:
    """Configuration of that log, which a consumer folds while the tests of a file run.

    It ends with the file: an idle consumer takes a percent of a processor, and 110 MB.
    """
    service = WarmConsumer(tmp_path_factory.mktemp("consumer"), shared_log)
    service.start()
    yield shared_log
    service.stop()


def pytest_generate_tests(metafunc):
    """Run the tests of a Protocol on the servers and in memory; those that use the servers otherwise, on these only."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "protocol" in metafunc.fixturenames and not any("protocol" in each.args[0] for each in marks):
        needs_servers = {"served", "config", "stack", "environment"} & set(metafunc.fixturenames)
        backends = ["servers"] if needs_servers else ["servers", "memory"]
        metafunc.parametrize("protocol", backends, indirect=True, scope="module")


@pytest.fixture(scope="module")
async def protocol(request) -> AsyncIterator[ts.Protocol]:
    """A Protocol on that log, or in memory, shared by the tests of a file."""
    if request.param == "memory":
        async with ts.connect("memory:") as protocol:
            yield protocol
    else:
        async with connected(request.getfixturevalue("served")) as protocol:
            yield protocol


@pytest.fixture
def name(request) -> str:
    """A name that is unique on that log."""
    return f"{request.node.originalname} {uuid.uuid4().hex[:8]}"


@pytest.fixture
async def trial(protocol: ts.Protocol, name: str) -> ts.Trial:
    """A newly created trial."""
    created = await protocol.new_trial(ts.Trial(name=name))
    assert created is not None
    return created


@pytest.fixture
def environment(monkeypatch, served: ts.Config) -> None:
    """Set the environment variables of that log."""
    for field in dataclasses.fields(served):
        monkeypatch.delenv(f"TRIALSTREAM_{field.name.upper()}", raising=False)
    for key in ("kafka", "mongo", "prefix"):
        monkeypatch.setenv(f"TRIALSTREAM_{key.upper()}", getattr(served, key))


@pytest.fixture
async def folded(config, consumer):
    """A log with every kind of event, folded by a consumer that still runs: the settings and the consumer."""
    service = consumer(config)
    await write_all(config)
    await caught_up(config)
    return config, service
