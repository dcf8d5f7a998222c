"""Jobs of the roles, and functions that take rights away from them, for the tests on secured servers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trialstream as ts
from aiokafka.protocol.admin import DeleteAclsRequest, DescribeAclsRequest
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_support import until
from trialstream.config import Config
from trialstream.event_log.clients import open_admin
from trialstream.event_log.topics import trial_ends
from trialstream.pipeline.push import push_spool, waiting_spools
from trialstream_console.cli.rights import _setup as set_up
from trialstream_console.local import LocalStack
from trialstream_console.local.granting import ACL_OPERATIONS, ACL_RESOURCES, grant
from trialstream_console.rights import KafkaRight, mongo_role
from trialstream_consumer.archive import Archive, Selection, export_log, import_archive
from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.projection.deployment import check_deployment
from trialstream_consumer.replay.rebuild import rebuild
from trialstream_consumer.replay.verify import verify
from trialstream_consumer.service import Service

_LITERAL, _ANY = 3, 1


def config_of(stack: LocalStack, role: str, **settings: Any) -> Config:
    """Return the settings of the user with a role."""
    assert stack.security is not None
    return dataclasses.replace(
        stack.security.config(role, stack.config, stack.folder.read_settings().ports), **settings
    )


def connected(config: Config, *, timeout: float = 15.0, **settings: Any) -> ts.KafkaProtocol:
    """Return a Protocol with these settings, not entered yet."""
    return ts.connect(**{**dataclasses.asdict(config), **settings}, timeout=timeout)


def first_of_each(kind: Callable[..., Any], cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return cases as parameters of a test; all but the first one of each kind are slow: `make faults` runs them."""
    seen = set()
    parameters = []
    for case in cases:
        marks = [pytest.mark.slow] if kind(*case) in seen else []
        seen.add(kind(*case))
        parameters.append(pytest.param(*case, marks=marks))
    return parameters


# --- The jobs of the roles


async def log(config: Config, _: Path) -> None:
    """Log a trial, and wait until Kafka has it."""
    async with connected(config, spool="off") as protocol:
        trial = await protocol.new_trial(ts.Trial(name="log"), auto_increment=True)
        await protocol.log_trial_metrics(trial, loss=1.0)
        await protocol.commit("acked")


async def log_groups(config: Config, _: Path) -> None:
    """Log a trial of a project and a group."""
    async with connected(config, spool="off") as protocol:
        await protocol.new_project(ts.Project(name="p"))
        group = await protocol.new_trial_group(ts.TrialGroup(name="g", project_id="p"))
        await protocol.new_trial(ts.Trial(name="log-groups", group_id=group.uid), auto_increment=True)
        await protocol.commit("acked")


async def push(config: Config, folder: Path) -> None:
    """Log a trial of a project offline, and send the spool."""
    async with connected(config, offline=True, spool_dir=folder / "spool") as protocol:
        await protocol.new_project(ts.Project(name="p"))
        await protocol.new_trial(ts.Trial(name="push"), auto_increment=True)
    for each in list(waiting_spools([folder / "spool"])):
        await push_spool(config, each.folder, lambda _: None)


async def watch(config: Config) -> None:
    """Watch trials."""
    async with ts.watch({"name": "read"}, since="now", **dataclasses.asdict(config)):
        pass


async def read(config: Config, _: Path) -> None:
    """Read trials and histories, and watch trials, without Kafka."""
    await watch(config)
    async with ts.connect(**{**dataclasses.asdict(config), "read_only": True}, timeout=10) as protocol:
        found = await protocol.fetch_trials({"name": "read"})
        await protocol.fetch_histories(found)


async def protocol(config: Config, _: Path) -> None:
    """Log, claim, read the latest state, and watch trials."""
    await watch(config)
    async with connected(config, spool="off") as protocol:
        await protocol.new_project(ts.Project(name="p"))
        trial = await protocol.new_trial(ts.Trial(name="protocol"), auto_increment=True)
        await protocol.fetch_and_update_trial({"uid": trial.uid}, "log_trial_start")
        [found] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)
        assert found.status is ts.Status.Running


async def consume(config: Config, _: Path) -> None:
    """Join the group, and fold until all is folded."""
    service = Service(config)
    async with anyio.create_task_group() as tasks:
        errors: list[ts.TrialStreamError] = []

        async def run() -> None:
            try:
                await service.run()
            except ts.TrialStreamError as error:
                errors.append(error)
                tasks.cancel_scope.cancel()

        tasks.start_soon(run)
        await until(lambda: bool(service._workers))
        await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]


async def rebuild_and_verify(config: Config, _: Path) -> None:
    """Rebuild, verify, and list the projections."""
    await rebuild(config, lambda *_: None)
    await verify(config, lambda _: None, lambda *_: None)
    async with Catalog(config) as catalog:
        assert "live" in {each.state for each in await catalog.listing()}


async def export(config: Config, folder: Path) -> None:
    """Export the log."""
    await export_log(config, folder / f"{os.urandom(4).hex()}.avro", Selection(), lambda *_: None)


async def import_(config: Config, folder: Path) -> None:
    """Import an archive of the log, which folds to nothing new."""
    archive = await run_sync(Archive.check, folder / "log.avro", lambda *_: None)
    await import_archive(config, archive, lambda *_: None)


async def setup(config: Config, _: Path) -> None:
    """Create topics, collections and indexes."""
    await check_deployment(config)
    await set_up(config)


async def lost(config: Config, _: Path) -> None:
    """Find how far the log is, as `trialstream trials --lost` does."""
    await trial_ends(config)


Job = Callable[[Config, Path], Awaitable[None]]
JOBS: dict[str, Job] = {
    "log": log,
    "log-groups": log_groups,
    "push": push,
    "read": read,
    "protocol": protocol,
    "consume": consume,
    "rebuild": rebuild_and_verify,
    "export": export,
    "import": import_,
    "setup": setup,
}


# --- Rights


@asynccontextmanager
async def without(stack: LocalStack, role: str, right: KafkaRight) -> AsyncIterator[None]:
    """Take a right in Kafka away from the user of a role, for one block."""
    acl = ACL_RESOURCES[right.kind], right.name(stack.config), _LITERAL, f"User:{role}", "*"
    wanted = (*acl, ACL_OPERATIONS[right.operation], _ANY)
    async with open_admin(stack.config) as admin:
        await admin._send_to_controller(DeleteAclsRequest(*wanted))

        async def is_granted() -> bool:
            return bool((await admin._send_request(DescribeAclsRequest(*wanted))).resources)

        async def is_gone() -> bool:
            return not await is_granted()

        await until(is_gone)
        try:
            yield
        finally:
            await grant(stack.config, role, (right,))
            await until(is_granted)


@asynccontextmanager
async def without_action(stack: LocalStack, role: str, action: str) -> AsyncIterator[None]:
    """Take an action in MongoDB away from the user of a role, for one block."""
    made = mongo_role(stack.config, role)
    assert made is not None
    name = made.pop("createRole")
    less = [{**each, "actions": [a for a in each["actions"] if a != action]} for each in made["privileges"]]

    def update(privileges: list[dict[str, Any]]) -> None:
        with MongoClient[dict[str, Any]](stack.config.mongo) as client:
            client.admin.command({"updateRole": name, "privileges": privileges})

    await run_sync(update, [each for each in less if each["actions"]])
    try:
        yield
    finally:
        await run_sync(update, made["privileges"])
