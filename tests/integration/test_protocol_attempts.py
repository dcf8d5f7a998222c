"""Attempts on real servers: ranks, rewinds, and runs whose processes create one trial."""

from __future__ import annotations

import uuid
from dataclasses import replace

import anyio
import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from contract import again, connected
from trialstream.pipeline.push import push_spool
from trialstream.reading import bands
from trialstream.reading import protocol as reading_protocol
from trialstream.spool.finding import find_spools


def named(**fields):
    """Return a new trial with a name of its own."""
    return ts.Trial(name=f"attempts {uuid.uuid4().hex[:8]}", **fields)


async def test_ranks_of_one_attempt(served, protocol):
    """Three ranks start and end one trial: it runs until the last has ended, and failed since one of them did."""
    trial = await protocol.new_trial(named())
    async with connected(served) as one, connected(served) as two:
        ranks = [protocol, one, two]
        for rank, each in enumerate(ranks):
            attempt = ts.Attempt("job", rank=rank, world_size=3, host=f"node{rank}")
            await each.log_trial_start(trial, attempt=attempt)
            await each.log_trial_metrics(trial, step=rank, loss=float(rank))
        await one.log_trial_finish(trial, ValueError, ValueError("rank 1 died"), None)
        await two.log_trial_finish(trial)
        for each in (one, two):
            await each.commit("folded")
        running = await again(protocol, trial)
        await protocol.log_trial_finish(trial)
        ended = await again(protocol, trial)

    assert (running.status, running.finished, running.starts) == (ts.Status.Running, None, 1)
    assert {rank: each.status for rank, each in running.ranks.items()} == {
        0: ts.Status.Running, 1: ts.Status.Exception, 2: ts.Status.Completed
    }  # fmt: skip
    assert running.ranks[1].error == "ValueError: rank 1 died"
    assert [each.host for each in running.ranks.values()] == ["node0", "node1", "node2"]
    assert (ended.status, ended.starts, len(ended.errors)) == (ts.Status.Exception, 1, 1)
    assert ended.finished is not None
    assert ended.chronos["runtime"].count == 1
    assert [(each.key, each.number, each.world_size) for each in ended.attempts] == [("job", 1, 3)]
    assert set(ended.participants) == {each.writer for each in ranks}


async def test_a_resumed_attempt_rewinds(served, protocol):
    """Histories have the surviving rows, or with `attempts` all; the other options apply to what is returned."""
    trial = await protocol.new_trial(named())
    await protocol.log_trial_start(trial, attempt=ts.Attempt("job", rank=0))
    for step in range(10):
        await protocol.log_trial_metrics(trial, step=step, loss=float(step))
    await protocol.log_trial_metrics(trial, step="end", note=1.0)
    await protocol.commit("folded")
    async with connected(served) as resumed:
        await resumed.log_trial_start(trial, attempt=ts.Attempt("job/1", rank=0, resume_step=4))
        for step in range(5, 8):
            await resumed.log_trial_metrics(trial, step=step, loss=100.0 + step)
        await resumed.commit("folded")
        await protocol.log_trial_metrics(trial, step=10, loss=10.0)  # a late row of the attempt that was dying
        await protocol.log_trial_metrics(trial, step=3, loss=-3.0)
        shown = await protocol.fetch_metrics(trial)
        everything = await protocol.fetch_metrics(trial, attempts=True)
        by_uid = await resumed.fetch_histories([trial], "loss", since_step=4, latest=True)
        newer = await protocol.fetch_metrics(trial, "loss", since_row=9)
        few = await protocol.fetch_metrics(trial, "loss", max_points=3)
        with pytest.raises(ts.ItemNotFound):
            await protocol.fetch_metrics(trial, "other", attempts=True)
    found = await again(protocol, trial)

    assert shown["loss"].values.tolist() == [0, 1, 2, 3, 4, 105, 106, 107, -3]
    assert shown["loss"].rows.tolist() == [0, 1, 2, 3, 4, 11, 12, 13, 15]
    assert shown["note"].steps.tolist() == ["end"]
    assert everything["loss"].values.tolist() == [*range(10), 105, 106, 107, 10, -3]
    assert by_uid[trial.uid]["loss"].values.tolist() == [4, 105, 106, 107]
    assert newer["loss"].rows.tolist() == [11, 12, 13, 15]
    assert few["loss"].values.max() == 107
    assert (found.starts, found.status, found.rows) == (2, ts.Status.Running, 16)
    assert [each.resume_step for each in found.attempts] == [None, 4]


async def test_other_readers_leave_out_superseded_rows(served, protocol):
    """A reader without async, and one with MongoDB alone, return the surviving rows or all."""
    trial = await protocol.new_trial(named())
    await protocol.log_trial_metrics(trial, step=5, loss=5.0)
    await protocol.log_trial_start(trial, attempt=ts.Attempt("job"))
    await protocol.commit("acked")  # the log has the attempts in the order of their starts
    async with connected(served) as resumed:
        await resumed.log_trial_start(trial, attempt=ts.Attempt("job/1", rank=0, resume_step=4.5))
        await resumed.commit("folded")

    def read():
        with trialstream.sync.connect(mongo=served.mongo, prefix=served.prefix, read_only=True) as reader:
            [found] = reader.fetch_trials({"uid": trial.uid})
            return reader.fetch_metrics(found), reader.fetch_histories([found], attempts=True), found.ranks

    shown, everything, ranks = await run_sync(read)
    assert shown["loss"].values.tolist() == []
    assert everything[trial.uid]["loss"].values.tolist() == [5.0]
    assert list(ranks) == [0]


async def test_a_protocol_takes_part_in_one_attempt(served, protocol):
    """A start in another attempt, and an attempt that is none, raise an error at the call, and nothing is logged."""
    trial = await protocol.new_trial(named())
    await protocol.log_trial_start(trial, attempt=ts.Attempt("job", rank=0))
    with pytest.raises(
        ts.InvalidValue, match="attempt: expected 'job', in which this Protocol takes part, got 'job/1'"
    ):
        await protocol.log_trial_start(trial, attempt=ts.Attempt("job/1", rank=0))
    with pytest.raises(ts.InvalidType, match="attempt: expected an Attempt or None, got dict"):
        await protocol.log_trial_start(trial, attempt={"key": "job"})
    await protocol.log_trial_start(trial, attempt=ts.Attempt("job", rank=1))
    found = await again(protocol, trial)

    assert (found.starts, list(found.ranks)) == (1, [1])


async def test_a_claim_starts_an_attempt(served, protocol):
    """A start that claims a trial can name an attempt; a refused one raises an error with the reason."""
    trial = await protocol.new_trial(named())
    claimed = await protocol.fetch_and_update_trial(
        {"uid": trial.uid}, "log_trial_start", attempt=ts.Attempt("job", rank=0, resume_step=1)
    )
    started = ts.update("log_trial_start", attempt=ts.Attempt("job/1", rank=0))
    with pytest.raises(ts.InvalidValue, match="takes part"):
        await protocol.fetch_and_update_trial({"uid": trial.uid}, updates=[started])
    with pytest.raises(ts.InvalidValue, match="takes part"):
        await protocol.log_trial_start(trial, attempt=ts.Attempt("job/1", rank=0))
    await protocol.log_trial_finish(trial)
    found = await again(protocol, trial)

    assert claimed.ranks[0].status is ts.Status.Running
    assert (claimed.attempts[0].resume_step, claimed.starts) == (1, 1)
    assert (found.status, len(found.attempts)) == (ts.Status.Completed, 1)


async def test_attempts_can_be_queried(protocol):
    """Trials can be found, sorted and read in part by the fields of their attempts and participants."""
    trial = await protocol.new_trial(named())
    await protocol.log_trial_start(trial, attempt=ts.Attempt("job é", rank=0, resume_step=3))
    found = await again(protocol, trial)
    started = found.attempts[0].started
    mine = {"name": trial.name}
    writer = protocol.writer
    queries = [
        {"attempts.key": "job é"},
        {"attempts.0.started": started},
        {"attempts.started": {"$gte": started.isoformat()}},
        {"attempts.resume_step": {"$gt": 2}},
        {f"participants.{writer}.last_seen": {"$gte": started}},
        {f"participants.{writer}.rank": 0},
    ]
    for query in queries:
        assert [each.uid for each in await protocol.fetch_trials(mine | query)] == [trial.uid], query
    [part] = await protocol.fetch_trials(mine, fields=["attempts", f"participants.{writer}"])
    assert (part.attempts, part.participants) == (found.attempts, found.participants)


@pytest.mark.parametrize("wait", [True, False])
async def test_one_run_creates_one_trial(served, protocol, wait):
    """Processes of one run that create a trial at the same time get the same one, and so does a restart."""
    run, definition = uuid.uuid4().hex, named(parameters={"lr": 0.1})
    created = {}

    async def create(rank, each):
        own = replace(definition, tags={"rank": rank})
        created[rank] = await each.new_trial(own, auto_increment=True, wait=wait, run_id=run)
        await each.log_trial_metrics(created[rank], step=rank, loss=float(rank))

    async with connected(served) as one, connected(served) as two:
        async with anyio.create_task_group() as tasks:
            for rank, each in enumerate((one, two, one, two)):
                tasks.start_soon(create, rank, each)
        for each in (one, two):
            await each.commit("folded")
    restarted = await protocol.new_trial(definition, auto_increment=True, run_id=run)
    other = await protocol.new_trial(definition, auto_increment=True, run_id=f"{run}/other")
    next_one = await protocol.new_trial(definition, auto_increment=True)

    assert len({each.uid for each in created.values()}) == 1
    assert [each.revision for each in (restarted, other, next_one)] == [0, 1, 2]
    assert (restarted.rows, len(restarted.tags)) == (4, 1)
    history = await protocol.fetch_metrics(restarted, "loss")
    assert sorted(history["loss"].values.tolist()) == [0, 1, 2, 3]


async def test_a_run_creates_a_trial_that_does_not_exist_yet(protocol):
    """Without `auto_increment`, all calls of a run get the trial that it has created, and another run gets None."""
    run, definition = uuid.uuid4().hex, named()

    first = await protocol.new_trial(definition, run_id=run)
    second = await protocol.new_trial(definition, run_id=run)

    assert first.uid == second.uid
    assert await protocol.new_trial(definition, run_id=f"{run}/other") is None
    with pytest.raises(ts.InvalidValue, match="run_id: expected 1 to 200 characters, got 0"):
        await protocol.new_trial(definition, run_id="")
    with pytest.raises(ts.InvalidValue, match="wait"):
        await protocol.new_trial(definition, wait=False, run_id=run)


async def test_runs_without_servers_create_one_trial(served, protocol, tmp_path):
    """Offline ranks of one run, also without async, log to one trial, which their pushed spools create once."""
    run, definition = uuid.uuid4().hex, named()
    uids = []
    for rank in range(2):
        async with connected(served, offline=True, spool_dir=tmp_path / str(rank)) as offline:
            trial = await offline.new_trial(definition, auto_increment=True, run_id=run)
            await offline.log_trial_start(trial, attempt=ts.Attempt("job", rank=rank, world_size=2))
            await offline.log_trial_finish(trial)
            uids.append(trial.uid)

    def create():
        with trialstream.sync.connect(offline=True, spool_dir=tmp_path / "sync") as offline:
            return offline.new_trial(definition, auto_increment=True, wait=False, run_id=run).uid

    uids.append(await run_sync(create))
    assert len(set(uids)) == 1
    for each in find_spools(tmp_path / "0") + find_spools(tmp_path / "1"):
        await push_spool(served, each, lambda _: None)
    [found] = await protocol.fetch_trials({"name": definition.name}, latest=True)
    assert (found.status, found.starts, list(found.ranks)) == (ts.Status.Completed, 1, [0, 1])


async def test_trials_are_found_by_their_best_value(served, protocol):
    """The best value and its step can be queried and sorted by; a rewind takes a superseded one back."""
    name = named().name
    trials = [await protocol.new_trial(ts.Trial(name=name, parameters={"i": i})) for i in range(3)]
    spec = ts.TimeSeriesAggregator.lazy(best="max")
    for i, trial in enumerate(trials):
        await protocol.log_trial_start(trial, attempt=ts.Attempt("job", rank=0))
        for step, value in enumerate([0.1, 0.3 + i / 10, float("nan"), 0.2]):
            await protocol.log_trial_metrics(trial, {"val/acc": value}, step=step, aggregator=spec)
    await protocol.commit("folded")
    order = [each.parameters["i"] for each in await protocol.fetch_trials({"name": name}, sort="-metrics.val/acc.best")]
    async with connected(served) as resumed:
        await resumed.log_trial_start(trials[2], attempt=ts.Attempt("job/1", rank=0, resume_step=0))
        await resumed.commit("folded")
    [good] = await protocol.fetch_trials({"name": name, "metrics.val/acc.best": {"$gt": 0.35}})
    found = [each.metrics["val/acc"] for each in await protocol.fetch_trials({"name": name}, sort="parameters.i")]
    history = await protocol.fetch_metrics(trials[1], "val/acc")

    assert order == [2, 1, 0]
    assert good.uid == trials[1].uid
    assert [(each.best, each.best_step) for each in found] == [(0.3, 1), (0.4, 1), (0.1, 0)]
    assert len(history["val/acc"]) == 4


async def test_histories_by_rank(served, protocol):
    """Rows and chronos of ranks are read rank by rank or reduced by step, also after a restart with other processes."""
    trial = await protocol.new_trial(named())
    for number, steps in enumerate([range(4), range(2, 6)]):
        resume_step = 1 if number else None
        async with connected(served) as one, connected(served) as two:
            for rank, each in enumerate((one, two)):
                attempt = ts.Attempt(f"job/{number}", rank=rank, world_size=2, resume_step=resume_step)
                await each.log_trial_start(trial, attempt=attempt)
                for step in steps:
                    await each.log_trial_metrics(trial, step=step, loss=100.0 * number + 10.0 * rank + step)
                await each.log_trial_chrono_start(trial, "step", ts.TimeSeriesAggregator.lazy())
                await each.log_trial_chrono_finish(trial, "step")
            for each in (one, two):
                await each.commit("folded")
    by_rank = (await protocol.fetch_metrics(trial, "loss", by="rank"))["loss"]
    by_writer = (await protocol.fetch_metrics(trial, "loss", by="writer", attempts=True))["loss"]
    means = (await protocol.fetch_metrics(trial, "loss", reduce="mean", since_step=1))["loss"]
    counts = (await protocol.fetch_metrics(trial, "loss", reduce="count", attempts=True))["loss"]
    few = (await protocol.fetch_metrics(trial, "loss", by="rank", max_points=3))["loss"]
    chronos = (await protocol.fetch_metrics(trial, section="chronos", by="rank", reduce="count"))["step"]
    await protocol.log_trial_metrics(trial, step=0, loss=7.0)
    with_others = (await protocol.fetch_metrics(trial, "loss", by="rank"))["loss"]
    with pytest.raises(ts.InvalidValue, match="by: expected"):
        await protocol.fetch_metrics(trial, by="host")

    assert {rank: each.values.tolist() for rank, each in by_rank.items()} == {
        0: [0, 1, 102, 103, 104, 105], 1: [10, 11, 112, 113, 114, 115]
    }  # fmt: skip
    assert [len(each) for each in by_writer.values()] == [4] * 4
    assert (means.steps.tolist(), means.values.tolist()) == ([1, 2, 3, 4, 5], [6, 107, 108, 109, 110])
    assert counts.values.tolist() == [2, 2, 4, 4, 2, 2]
    assert [each.steps.tolist() for each in few.values()] == [[0, 5], [0, 5]]
    assert {rank: each.values.tolist() for rank, each in chronos.items()} == {0: [2], 1: [2]}
    assert list(with_others) == [0, 1, None]

    def read():
        with trialstream.sync.connect(mongo=served.mongo, prefix=served.prefix, read_only=True) as reader:
            [found] = reader.fetch_trials({"uid": trial.uid})
            return reader.fetch_metrics(found, "loss", by="rank", reduce="max")["loss"]

    assert {rank: each.values.max() for rank, each in (await run_sync(read)).items()} == {0: 105, 1: 115, None: 7}


async def test_bands_of_the_seeds_of_a_group(served, protocol):
    """Trials of a query, or given ones, become bands on one grid of steps, all together or by a field."""
    name = named().name
    trials = []
    for lr, seed in [(0.1, 0), (0.1, 1), (0.2, 2)]:
        parameters = {"lr": lr, "seed": seed}
        trials.append(await protocol.new_trial(ts.Trial(name=name, parameters=parameters)))
        for step in range(4 + seed):
            await protocol.log_trial_metrics(trials[-1], step=step, loss=10.0 * seed + step)
    await protocol.new_trial(ts.Trial(name=name, parameters={"lr": 0.3}))  # without a history
    together = await protocol.fetch_bands({"name": name}, "loss", quantiles=[0.5])
    by_lr = await protocol.fetch_bands(iter(trials), "loss", by="parameters.lr", points=3)
    nothing = await protocol.fetch_bands({"name": name}, "other")
    with pytest.raises(ts.QueryError, match="there is no field 'group'"):
        await protocol.fetch_bands(trials, "loss", by="group")
    with pytest.raises(ts.InvalidValue, match="points: expected 2 to 10000, got 0"):
        await protocol.fetch_bands(trials, "loss", points=0)
    with pytest.raises(ts.ItemNotFound):
        await protocol.fetch_bands([named()], "loss")

    assert together.steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert together.count.tolist() == [3, 3, 3, 3, 2, 1]
    assert together.mean.tolist() == [10, 11, 12, 13, 19, 25]
    assert together.min.tolist() == [0, 1, 2, 3, 14, 25]
    assert together.max.tolist() == [20, 21, 22, 23, 24, 25]
    assert together.quantiles[0.5].tolist() == [10, 11, 12, 13, 19, 25]
    assert sorted(together.trials) == sorted(each.uid for each in trials)
    assert list(by_lr) == [0.1, 0.2]
    assert by_lr[0.1].steps.tolist() == by_lr[0.2].steps.tolist() == [0, 2.5, 5]
    assert by_lr[0.1].count.tolist() == [2, 2, 0]
    assert by_lr[0.1].mean[:2].tolist() == [5, 7.5]
    assert by_lr[0.2].mean.tolist() == [20, 22.5, 25]
    assert (len(nothing), nothing.trials) == (0, [])

    def read_by():
        with trialstream.sync.connect(mongo=served.mongo, prefix=served.prefix, read_only=True) as reader:
            found = reader.fetch_trials({"name": name})
            return reader.fetch_bands((each for each in found if reader.get_trial(each)), "loss", by="status")

    assert [each.count.tolist() for each in (await run_sync(read_by)).values()] == [[3, 3, 3, 3, 2, 1]]


async def test_bands_read_a_bounded_number_of_rows_at_once(protocol, monkeypatch):
    """Histories of many trials are not in memory together: as many as have a number of rows, but at least one."""
    read = []

    def curves_of(found, name):
        read.append([len(found[uid][name]) for uid in found])
        return bands.curves_of(found, name)

    monkeypatch.setattr(reading_protocol, "curves_of", curves_of)
    monkeypatch.setattr(reading_protocol, "_ROWS_AT_ONCE", 10)
    trials = []
    for rows in (3, 7, 1, 12, 4, 4, 4):
        trials.append(await protocol.new_trial(named()))
        for step in range(rows):
            await protocol.log_trial_metrics(trials[-1], step=step, loss=float(rows))
    found = await protocol.fetch_bands(trials, "loss")

    assert read == [[3, 7], [1], [12], [4, 4], [4]]
    assert found.count.tolist() == [7, 6, 6, 5, 2, 2, 2, 1, 1, 1, 1, 1]
