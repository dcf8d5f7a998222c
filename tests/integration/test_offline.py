"""Runs without servers, and their delivery by `trialstream push`."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from contract import until
from service_support import cli, records_of
from trialstream.pipeline.push import push_spool, waiting_spools
from trialstream.spool.finding import find_spools
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import SubjectEvent, TrialCreated

NOWHERE = "127.0.0.1:1"


def offline(config):
    """Return a protocol without servers, which never connects to its addresses."""
    return ts.KafkaProtocol(replace(config, kafka=NOWHERE, mongo="mongodb://127.0.0.1:1", offline=True))


async def run(protocol, plan, rows=600):
    """Make the calls of a training script, from the project to the end."""
    project = await protocol.new_project(ts.Project(name="p", description="of a run"))
    group = await protocol.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid))
    trial = await protocol.new_trial(replace(plan, project_id=project.uid, hash=""))
    await protocol.add_group_trial(group, trial)
    await protocol.set_group_metadata(group, space="grid")
    await protocol.log_trial_start(trial)
    for i in range(rows):
        await protocol.log_trial_chrono_start(trial, "step", ts.StatAggregator.lazy(0))
        await protocol.log_trial_metrics(trial, step=i, loss=i / 4)
        await protocol.log_trial_chrono_finish(trial, "step")
    await protocol.log_trial_metadata(trial, host="a")
    await protocol.log_trial_arguments(trial, extra=1)
    await protocol.add_trial_tags(trial, good=True)
    await protocol.set_trial_status(trial, ts.Status.Suspended)
    await protocol.commit()
    await protocol.log_trial_finish(trial)
    return trial


def assert_complete(trial, history, rows=600):
    """Check that everything that `run` logs is stored, once and in order."""
    assert (trial.status, trial.starts, trial.lost_events) == (ts.Status.Completed, 1, 0)
    assert (trial.metadata["host"], trial.parameters["extra"], trial.tags) == ("a", 1, {"good": True})
    assert trial.metrics["loss"].count == trial.chronos["step"].count == rows
    assert history["loss"].steps.tolist() == list(range(rows))
    assert history["loss"].values.tolist() == [i / 4 for i in range(rows)]


async def push(config):
    """Push every spool and return the number of events sent."""
    return sum([await push_spool(config, each, lambda _: None) for each in find_spools(config.spools)])


async def test_a_run_without_servers_is_complete_after_the_push(config, consumer, caplog):
    """A run without servers starts, trains and ends; after the push it equals a run with servers."""
    plan = ts.Trial(name="t", parameters={"lr": 0.1}, description="d", tags={})
    with caplog.at_level(logging.WARNING, "trialstream"):
        async with offline(config) as protocol:
            trial = await run(protocol, plan)
            waits = protocol.statistics().queued

    assert f"wait in {config.spools / protocol.writer}: send them with trialstream push" in caplog.text
    assert trial.uid == f"{trial.hash}~{trial.request}"
    assert [each.events for each in waiting_spools([config.spools])] == [waits]

    consumer(config)
    assert await push(config) == waits
    assert not config.spools.exists()
    async with ts.KafkaProtocol(config) as protocol:
        [found] = await protocol.get_trial(trial, latest=True)
        assert_complete(found, await protocol.fetch_metrics(found))
        by_request = await protocol.fetch_metrics(trial, "loss")
        [group] = await protocol.fetch_groups({})
        [project] = await protocol.fetch_projects({})

    assert (found.uid, found.created) == (f"{trial.hash}_0", trial.created)
    assert len(by_request["loss"]) == 600
    assert (group.trials, group.metadata) == ([found.uid], {"space": "grid"})
    assert (project.trials, project.description) == ([found.uid], "of a run")


async def test_the_revision_is_decided_by_the_order_of_the_pushes(config, consumer):
    """Runs without servers get their revisions in the order of their pushes, after those already in the log."""
    plan = ts.Trial(name="t")
    spools, trials = [], []
    for _ in range(2):
        async with offline(config) as protocol:
            trials.append(await run(protocol, plan, rows=10))
            spools.append(config.spools / protocol.writer)
    consumer(config)
    async with ts.KafkaProtocol(config) as protocol:
        await run(protocol, plan, rows=10)
        for spool in reversed(spools):
            await push_spool(config, spool, lambda _: None)
        await until(lambda: _revisions(protocol, trials[0], 3))
        found = await protocol.get_trial(trials[0])

    assert [each.revision for each in found] == [0, 1, 2]
    assert [each.created for each in found[1:]] == [trials[1].created, trials[0].created]
    assert all(each.status is ts.Status.Completed for each in found)


async def _revisions(protocol, trial, count):
    found = await protocol.get_trial(trial)
    return len(found) == count and found[-1].status is ts.Status.Completed


async def test_pushing_twice_changes_nothing(config, consumer):
    """Pushing copies of a spool again leaves the documents as they are."""
    async with offline(config) as protocol:
        trial = await run(protocol, ts.Trial(name="t"), rows=300)
    [spool] = find_spools(config.spools)
    copies = {each.name: each.read_bytes() for each in spool.iterdir()}
    consumer(config)
    await push(config)
    async with ts.KafkaProtocol(config) as reader:
        await until(lambda: _revisions(reader, trial, 1))
        before = await reader.fetch_trials({})
        spool.mkdir(parents=True)
        for name, data in copies.items():
            (spool / name).write_bytes(data)
        again = await push(config)
        after = await reader.fetch_trials({}, latest=True)

    assert again > 0
    assert after == before


async def test_each_writer_of_an_undecided_trial_also_sends_its_creation(config, consumer):
    """A worker's spool can be pushed before that of the process that created the trial, or without it."""
    queued = ts.CustomStatus("Queued", 7)
    async with offline(config) as main, offline(config) as worker, offline(config) as other:
        trial = await main.new_trial(
            ts.Trial(name="t", parameters={"a": 1}, metadata={"m": 2}, tags={"x": 3}, status=queued)
        )
        for writer in (worker, other, main):
            for i in range(50):
                await writer.log_trial_metrics(trial, step=i, **{writer.writer: i})
    consumer(config)
    async with ts.KafkaProtocol(config) as reader:
        for count, writer in enumerate((worker, other, main), 1):
            await push_spool(config, config.spools / writer.writer, lambda _: None)
            await until(lambda count=count: _writers(reader, trial, count))
        [found] = await reader.get_trial(trial)

    assert trial.status == found.status == queued
    assert (found.revision, found.lost_events) == (0, 0)
    assert (found.parameters, found.metadata, found.tags) == ({"a": 1}, {"m": 2}, {"x": 3})
    assert {name: each.count for name, each in found.metrics.items()} == {
        each.writer: 50 for each in (worker, other, main)
    }


async def test_a_finished_trial_is_created_again_without_servers(config, consumer):
    """The next revision of a trial has nothing that was logged for the first, before it is decided and afterwards."""
    consumer(config)
    async with ts.KafkaProtocol(config) as protocol:
        first = await protocol.new_trial(ts.Trial(name="t", parameters={"a": 1}))
        await protocol.log_trial_metadata(first, ts.RingAggregator.lazy(2), batch=1)
        await protocol.log_trial_metrics(first, loss=1)
        await protocol.log_trial_finish(first, ValueError)
        [done] = await protocol.get_trial(first)
    async with offline(config) as protocol:
        undecided = await protocol.new_trial(done, auto_increment=True)
    await push(config)
    async with ts.KafkaProtocol(config) as protocol:
        await until(lambda: _revisions_exist(protocol, first, 2))
        second = (await protocol.get_trial(first))[1]

    assert (done.status, second.hash) == (ts.Status.Exception, first.hash)
    for each in (undecided, second):
        assert (each.status, each.parameters, each.metadata) == (ts.Status.CreatedGroup, {"a": 1}, {})
        assert (each.metrics, each.errors, each.starts, each.finished, each.writers) == ({}, [], 0, None, {})
    with pytest.raises(ts.InvalidValue, match=r"Trial\.metrics: expected no value in a new Trial"):
        async with offline(config) as protocol:
            await protocol.new_trial(ts.Trial(name="t", metrics={"loss": 1}))
    assert not list(waiting_spools([config.spools]))


async def _revisions_exist(reader, trial, count):
    return len(await reader.get_trial(trial)) == count


async def _writers(reader, trial, count):
    found = await reader.get_trial(trial)
    return bool(found) and len(found[0].writers) == count


async def test_calls_that_need_servers_raise_offline(config):
    """Reading and claiming raise Offline; invalid calls are refused as always, and nothing is written."""
    async with offline(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        for call in (
            lambda: protocol.fetch_trials({}),
            lambda: protocol.get_trial(trial),
            lambda: protocol.get_project(ts.Project(name="p")),
            lambda: protocol.fetch_metrics(trial),
            lambda: protocol.fetch_and_update_trial({}, "log_trial_start"),
        ):
            with pytest.raises(ts.Offline, match="works offline"):
                await call()
        with pytest.raises(ts.ItemNotFound, match=r"'never' .* was never created"):
            await protocol.log_trial_start(ts.Trial(name="never"))
        with pytest.raises(ts.ItemNotFound, match="group 'g' was never created"):
            await protocol.add_group_trial(ts.TrialGroup(name="g"), trial)
        with pytest.raises(ts.InvalidValue, match="'a\\\\x00b'"):
            await protocol.log_trial_metrics(trial, **{"a\0b": 1})
        queued = protocol.statistics().queued

    assert queued == 1
    with pytest.raises(ts.ConfigError, match="spool: cannot be 'off' when offline is set"):
        ts.connect(offline=True, spool="off")


async def test_a_run_starts_while_kafka_is_away(config, consumer, stack):
    """Without Kafka a run starts with a warning, and is sent without a push once Kafka is available."""
    consumer(config)
    await run_sync(stack.kafka.kill)
    try:
        with pytest.warns(RuntimeWarning, match="does not answer.* until Kafka answers, all logged events go to"):
            protocol = await ts.KafkaProtocol(config, timeout=20).__aenter__()
        trial = await run(_Uncommitted(protocol), ts.Trial(name="t"))
        await protocol.commit("spooled")
        spooled = [each.name for each in (config.spools / protocol.writer).iterdir()]
    finally:
        await run_sync(stack.kafka.start)
    await protocol.commit("folded", timeout=60)
    [found] = await protocol.get_trial(trial)
    history = await protocol.fetch_metrics(trial)
    second = await protocol.new_trial(ts.Trial(name="with servers"))
    await protocol.__aexit__(None, None, None)

    assert spooled
    assert_complete(found, history)
    assert (second.uid, second.request) == (f"{second.hash}_0", None)
    assert not config.spools.exists()


class _Uncommitted:
    """A protocol whose commit does nothing, since no broker could acknowledge."""

    def __init__(self, protocol):
        self._protocol = protocol

    def __getattr__(self, name):
        return getattr(self._protocol, name)

    async def commit(self):
        """Do nothing."""


async def test_a_trial_can_be_created_while_kafka_is_away(config, consumer, stack):
    """Without Kafka, `new_trial` succeeds with auto_increment, and raises CommitTimeout without it."""
    consumer(config)
    async with ts.KafkaProtocol(config, timeout=3) as protocol:
        await run_sync(stack.kafka.kill)
        try:
            with pytest.warns(RuntimeWarning, match="goes on without its revision"):
                trial = await protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
            with pytest.raises(ts.CommitTimeout, match="has not acknowledged"):
                await protocol.new_trial(ts.Trial(name="other"))
            await protocol.log_trial_metrics(trial, step=1, loss=1.0)
        finally:
            await run_sync(stack.kafka.start)
        await protocol.commit("folded", timeout=60)
        [found] = await protocol.get_trial(trial)

    assert found.metrics["loss"].count == 1


def test_the_sync_protocol_works_offline(config):
    """`trialstream.sync.connect` works offline with the same arguments."""
    with (
        warnings.catch_warnings(),
        trialstream.sync.connect(kafka=NOWHERE, prefix=config.prefix, offline=True, spool_dir=config.spool_dir) as p,
    ):
        warnings.simplefilter("ignore")
        trial = p.new_trial(ts.Trial(name="t"))
        p.log_trial_metrics(trial, step=1, loss=1.0)
        p.commit()

    assert [each.events for each in waiting_spools([Path(config.spool_dir)])] == [2]


# --- The commands


async def test_spool_lists_and_push_sends(config, consumer):
    """`spool` lists spools as text and as JSON, `push` sends them, and a second push finds nothing to send."""
    async with offline(config) as protocol:
        await run(protocol, ts.Trial(name="t"), rows=10)
        busy = await run_sync(lambda: cli(config, "push", str(config.spools)))
    listed = await run_sync(lambda: cli(config, "spool"))
    as_json = await run_sync(lambda: cli(config, "spool", config.spool_dir, "--json"))
    pushed = await run_sync(lambda: cli(config, "push", config.spool_dir))
    again = await run_sync(lambda: cli(config, "push", config.spool_dir))
    nowhere = await run_sync(lambda: cli(config, "push", "/nowhere/at/all"))

    assert f"skipped {config.spools / protocol.writer}: it is in use by a running process" in busy.stdout
    assert listed.stdout.startswith(f"{config.spools / protocol.writer}: 13 events, ")
    line = json.loads(as_json.stdout)
    assert (line["writer"], line["prefix"], line["busy"]) == (protocol.writer, config.prefix, False)
    assert pushed.stdout == f"sent {line['events']} events from {config.spools / protocol.writer}\n", pushed.stderr
    assert (again.stdout, again.returncode) == ("no events to send\n", 0)
    assert (nowhere.stderr, nowhere.returncode) == (
        "error: /nowhere/at/all: expected a spool or a folder of spools, got a path that does not exist\n",
        1,
    )


async def test_a_spool_is_pushed_only_to_its_own_log(config, consumer):
    """A push to another prefix or another log is refused with the setting to change."""
    consumer(config)
    async with ts.KafkaProtocol(replace(config, spool="always")) as protocol:
        await protocol.new_trial(ts.Trial(name="t"))
        await protocol.commit("spooled")
        [spool] = find_spools(config.spools)
        copies = {each.name: each.read_bytes() for each in spool.iterdir()}
    spool.mkdir(parents=True)
    for name, data in copies.items():
        (spool / name).write_bytes(data)
    other = replace(config, prefix=f"{config.prefix}-b")

    with pytest.raises(ts.SpoolError, match=f"set TRIALSTREAM_PREFIX={config.prefix}"):
        await push_spool(other, spool, lambda _: None)
    assert {each.name for each in spool.iterdir()} == copies.keys()
    await push_spool(config, spool, lambda _: None)
    schemas = SchemaStore()
    events = [schemas.decode(each.value) for each in await records_of(config, config.trials_topic)]

    assert [type(each) for each in events if isinstance(each, SubjectEvent)] == [TrialCreated] * 2


async def test_a_push_without_kafka_keeps_the_spool(config):
    """A push without Kafka reports the failure, leaves the spool as it is, and can be run again."""
    async with offline(config) as protocol:
        await run(protocol, ts.Trial(name="t"), rows=10)
    [before] = waiting_spools([config.spools])
    with pytest.raises(ts.KafkaUnavailable, match="does not answer"):
        await push_spool(replace(config, kafka=NOWHERE), before.folder, lambda _: None)
    [after] = waiting_spools([config.spools])

    assert after == before
