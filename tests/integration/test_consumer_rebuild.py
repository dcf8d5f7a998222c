"""Dropping the database and folding the log again: every document comes back byte for byte."""

from __future__ import annotations

import math

import anyio
import pytest
import trialstream as ts
from service_load import connected
from service_support import caught_up, differences, drop, send, snapshot

CLAIMS = 12
WRITERS = 3


async def claim_all(protocol, group, won):
    """Claim trials until none is left; with several claimants, some claims are lost."""
    while True:
        try:
            trial = await protocol.fetch_and_update_trial(
                {"group_id": group.uid, "status": None},
                updates=[
                    ts.update("set_trial_status", ts.Status.Running),
                    ts.update("log_trial_metrics", step=0, loss=1.0),
                    ts.update("log_trial_metadata", {"worker": protocol.writer}),
                ],
            )
        except ts.ItemNotFound:
            return
        won.append(trial.uid)


async def log_everything(protocol, trial, number):
    """Log an event of every kind, with values that are hard to get right."""
    attempt = ts.Attempt(f"job/{number % 2}", rank=number, host="é", resume_step=100.5 * number)
    await protocol.log_trial_start(trial, attempt=attempt)
    await protocol.log_trial_arguments(trial, **{"a.b": 1, "$set": [1, {"x": None}], "raw": b"\x00\xff", "n": number})
    await protocol.log_trial_metadata(trial, host=f"worker {number}", big=2**63 - 1)
    await protocol.log_trial_metadata(trial, aggregator=ts.StatAggregator.lazy(1), memory=0.1 * number)
    await protocol.log_trial_metadata(trial, aggregator=ts.RingAggregator.lazy(3), device=f"gpu{number}")
    await protocol.log_trial_metadata(trial, aggregator=ts.timeseries_aggregator, power=math.inf)
    await protocol.add_trial_tags(trial, **{f"by {number}": True, "ключ": "значение"})
    for i in range(900):
        await protocol.log_trial_metrics(trial, step=i, loss=0.1 * i / (number + 1), accuracy=i / 900)
        if i % 9 == 0:
            value = (math.nan, math.inf, -math.inf)[i % 3]
            await protocol.log_trial_metrics(trial, step=i / 2, strange=value)
            await protocol.log_trial_metrics(
                trial, step=f"epoch {i}", aggregator=ts.StatAggregator.lazy(2), stat=0.1 * i
            )
            await protocol.log_trial_metrics(trial, aggregator=ts.RingAggregator.lazy(5), ring=i)
            await protocol.log_trial_metrics(trial, aggregator=ts.value_aggregator, value=i)
            await protocol.log_trial_metrics(trial, step=i, aggregator=ts.BestAggregator.lazy("min"), best=math.sin(i))
            await anyio.lowlevel.checkpoint()
    for aggregator in (ts.StatAggregator.lazy(1), ts.timeseries_aggregator, ts.RingAggregator.lazy(2)):
        for _ in range(3):
            name = f"chrono.{aggregator.kind}"
            await protocol.log_trial_chrono_start(trial, name, aggregator)
            await protocol.log_trial_chrono_finish(trial, name)
    await protocol.log_trial_chrono_start(trial, "failing")
    await protocol.log_trial_chrono_finish(trial, "failing", ValueError, ValueError("no"))
    await protocol.set_trial_status(trial, ts.CustomStatus("Odd", 777), error="a text")
    try:
        raise RuntimeError(f"failure of {number}")
    except RuntimeError as error:
        await protocol.log_trial_finish(trial, type(error), error, error.__traceback__)


async def write_all(config):
    """Write a log of several writers: projects, groups, claims, every kind of event, and invalid records."""
    async with connected(config) as protocol:
        project = await protocol.new_project(ts.Project(name="p.$", metadata={"a.b": math.nan}))
        await protocol.new_project(ts.Project(name="p.$"))
        group = await protocol.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid))
        assert await protocol.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid)) is None
        await protocol.set_group_metadata(group, best=0.1)
        await protocol.fetch_and_update_group({"uid": group.uid}, "set_group_metadata", done=False)
        for i in range(CLAIMS):
            await protocol.new_trial(
                ts.Trial(name="t", parameters={"i": i}, project_id=project.uid, group_id=group.uid)
            )
        loner = await protocol.new_trial(ts.Trial(name="loner"))
        assert await protocol.new_trial(ts.Trial(name="loner")) is None
        for _ in range(3):
            await protocol.new_trial(ts.Trial(name="loner"), auto_increment=True)
        await protocol.add_project_trial(project, loner)
        await protocol.add_group_trial(group, loner)
        await protocol.commit("folded")  # the claims below end when the group shows no more trials

    won: list[str] = []

    async def work(number):
        async with connected(config) as protocol:
            await claim_all(protocol, group, won)
            await log_everything(protocol, loner, number)
            with pytest.raises(ts.InvalidValue):
                await protocol.fetch_and_update_trial({"uid": loner.uid}, "log_trial_metadata", memory="no number")

    async with anyio.create_task_group() as tasks:
        for number in range(WRITERS):
            tasks.start_soon(work, number)
    await send(config, [b"garbage", b"", b"\xc3\x01"], partition=1)

    assert len(won) == len(set(won)) == CLAIMS + 1  # and the single trial that was put into the group


async def test_a_dropped_database_comes_back_byte_for_byte(config, consumer):
    """Trials, groups, projects, series, outcomes, dead letters and offsets are equal as BSON."""
    service = consumer(config)
    await write_all(config)
    await caught_up(config)
    live = snapshot(config)
    service.stop()
    drop(config)

    assert not any(snapshot(config).values())

    service.start()
    await caught_up(config)
    again = snapshot(config)

    assert differences(live, again) == []
    assert live == again
    assert len(live["trials"]) == CLAIMS + 4
    assert len(live["dead_letters"]) >= 3
    assert any(not id_.endswith("/open") for id_ in live["series"])
    assert len(live["groups"]) == len(live["projects"]) == 1
