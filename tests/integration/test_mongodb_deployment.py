"""MongoDB deployments without transactions are refused at start; a replica set without a primary is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_support import admin, cli, log_entries
from trialstream_console.local.mongo import MongoServer, is_primary
from trialstream_console.local.ports import REPLICA_SET, Ports, accepts_connections
from trialstream_consumer.projection.deployment import check_deployment


class StandaloneServer(MongoServer):
    """A mongod without a replica set."""

    def _command(self):
        program, _, _, *options = super()._command()
        return [program, *options]

    def _poll_startup(self):
        return is_primary(self.ports.mongo)


class UninitiatedServer(MongoServer):
    """A mongod whose replica set is not initiated."""

    def _poll_startup(self):
        return accepts_connections(self.ports.mongo)

    def initiate(self) -> None:
        """Initiate the replica set."""
        with MongoClient(self.address, directConnection=True) as client:
            self._configure_replica_set(client)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory) -> Iterator[MongoServer]:
    """A standalone mongod."""
    server = StandaloneServer(tmp_path_factory.mktemp("standalone"), Ports.free())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def uninitiated(tmp_path) -> Iterator[UninitiatedServer]:
    """A mongod whose replica set is not initiated."""
    server = UninitiatedServer(tmp_path, Ports.free())
    server.start()
    yield server
    server.stop()


async def topics(config):
    """Return the topics of a prefix."""
    async with admin(config) as client:
        return {each for each in await client.list_topics() if each.startswith(f"{config.prefix}.")}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("", id="no option"),
        pytest.param("directConnection=true", id="direct connection"),
        pytest.param(f"replicaSet={REPLICA_SET}", id="replica set in the URI"),
    ],
)
async def test_a_standalone_server_is_refused(config, standalone, options):
    """`consume`, `rebuild` and `verify` end at once, say what to do, and write nothing, for each form of the URI."""
    config = replace(config, mongo=f"mongodb://{standalone.address}/?{options}")
    found = {}

    async def run(command):
        found[command] = await run_sync(cli, config, command)

    async with anyio.create_task_group() as tasks:
        for command in ("consume", "rebuild", "verify"):
            tasks.start_soon(run, command)
    for done in found.values():
        [*_, last] = done.stderr.splitlines()

        assert done.returncode == 1
        assert last.startswith(f"error: mongo: expected a replica set, got a standalone server at {standalone.address}")
        assert f"--replSet {REPLICA_SET}" in last
        assert "rs.initiate()" in last
        assert "trialstream up" in last
        assert "Traceback" not in done.stderr
    assert await topics(config) == set()
    with MongoClient(standalone.address) as client:
        assert config.prefix not in client.list_database_names()


async def test_another_replica_set_than_that_of_the_uri_is_refused(config, stack):
    """The error has both names."""
    wrong = replace(config, mongo=f"mongodb://{stack.mongo.address}/?replicaSet=rs0")

    with pytest.raises(ts.ConfigError, match=f"expected replica set 'rs0'.*got replica set '{REPLICA_SET}'"):
        await check_deployment(wrong)


@pytest.mark.parametrize("options", ["", f"replicaSet={REPLICA_SET}", "directConnection=true"])
async def test_the_replica_set_of_the_stack_is_accepted(config, stack, options):
    """One node is enough, and the URI need not name the set."""
    await check_deployment(replace(config, mongo=f"mongodb://{stack.mongo.address}/?{options}"))


async def test_a_replica_set_that_is_not_initiated_is_unavailable(config, uninitiated):
    """The error says by which command it becomes available."""
    with pytest.raises(ts.MongoUnavailable, match=r"not initiated: run rs\.initiate\(\)"):
        await check_deployment(replace(config, mongo=f"mongodb://{uninitiated.address}/"))


async def test_a_consumer_waits_for_the_primary(config, consumer, uninitiated):
    """A consumer that starts while the replica set has no primary folds once there is one."""
    config = replace(config, mongo=uninitiated.uri)
    services = []

    async def start():
        services.append(await run_sync(consumer, config))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        await run_sync(uninitiated.initiate)

    assert log_entries(services[0], "ready")
