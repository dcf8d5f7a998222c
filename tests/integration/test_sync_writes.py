"""`connect(sync_writes=True)`: each log call returns when its event is folded."""

from __future__ import annotations

import time

import anyio
import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from contract import again, connected
from service_support import paused


async def seen(reader, trial):
    """Return the trial as a reader sees it that waits for nothing."""
    [found] = await reader.fetch_trials({"uid": trial.uid})
    return found


async def test_each_call_returns_when_its_event_is_folded(served, protocol, trial, name):
    """After each log call, a reader that waits for nothing sees what was logged."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    async with connected(served, sync_writes=True) as writer, connected(served, read_only=True) as reader:
        await writer.log_trial_start(trial)
        assert (await seen(reader, trial)).status is ts.Status.Running
        await writer.log_trial_arguments(trial, depth=3)
        assert (await seen(reader, trial)).parameters == {"depth": 3}
        await writer.log_trial_metadata(trial, host="node1")
        assert (await seen(reader, trial)).metadata == {"host": "node1"}
        await writer.add_trial_tags(trial, good=True)
        assert (await seen(reader, trial)).tags == {"good": True}
        for step in (1, 2, 3, 4.5, "end"):
            await writer.log_trial_metrics(trial, step=step, loss=0.5, rank=1)
            assert (await seen(reader, trial)).metrics["loss"].last_step == step
        await writer.log_trial_chrono_start(trial, "epoch", ts.StatAggregator.lazy())
        await writer.log_trial_chrono_finish(trial, "epoch")
        assert (await seen(reader, trial)).chronos["epoch"].count == 1
        await writer.log_trial_chrono_start(trial, "epoch", end_callback=_fail)
        with pytest.raises(ZeroDivisionError):
            await writer.log_trial_chrono_finish(trial, "epoch")
        assert (await seen(reader, trial)).failed_chronos == {"epoch": 1}
        await writer.set_trial_status(trial, ts.Status.Suspended, "no space")
        assert (await seen(reader, trial)).errors[0].message == "no space"
        await writer.add_project_trial(project, trial)
        await writer.add_group_trial(group, trial)
        assert (await seen(reader, trial)).group_id == group.uid
        await writer.set_group_metadata(group, budget=3)
        assert (await reader.get_trial_group(group)).metadata == {"budget": 3}
        await writer.log_trial_finish(trial)
        assert (await seen(reader, trial)).status is ts.Status.Completed


def _fail():
    raise ZeroDivisionError


async def test_no_row_takes_the_short_way(served, trial):
    """Rows of an open frame are waited for too; `log_trial_metrics_nowait` cannot wait, and so logs none of them."""
    async with connected(served, sync_writes=True) as writer, connected(served, read_only=True) as reader:
        for step in range(1, 21):
            assert not writer.log_trial_metrics_nowait(trial, step, None, {"loss": 0.5})
            await writer.log_trial_metrics(trial, step=step, loss=0.5)
            found = await seen(reader, trial)
            assert (found.rows, found.metrics["loss"].last_step) == (step, step)


async def test_without_async(served, trial):
    """The protocol for code that is not async waits in the same calls."""
    settings = {"kafka": served.kafka, "mongo": served.mongo, "prefix": served.prefix}

    def log():
        with (
            trialstream.sync.connect(**settings, sync_writes=True) as writer,
            trialstream.sync.connect(**settings, read_only=True) as reader,
        ):
            for step in range(1, 11):
                assert not writer.log_trial_metrics_nowait(trial, step, None, {"loss": 0.5})
                writer.log_trial_metrics(trial, step=step, loss=0.5)
                assert reader.fetch_trials({"uid": trial.uid})[0].rows == step
            writer.add_trial_tags(trial, good=True)
            assert reader.fetch_trials({"uid": trial.uid})[0].tags == {"good": True}
            writer.set_trial_status(trial, ts.Status.Broken)
            assert reader.fetch_trials({"uid": trial.uid})[0].status is ts.Status.Broken

    await run_sync(log)


async def test_several_tasks(served, trial):
    """Calls of several tasks wait at the same time, each for its own event."""
    async with connected(served, sync_writes=True) as writer, connected(served, read_only=True) as reader:

        async def work(rank):
            for i in range(5):
                await writer.add_trial_tags(trial, **{f"rank{rank}": i})
                assert (await seen(reader, trial)).tags[f"rank{rank}"] == i

        async with anyio.create_task_group() as tasks:
            for rank in range(8):
                tasks.start_soon(work, rank)


@pytest.mark.usefixtures("environment")
async def test_the_setting_of_the_environment(monkeypatch, served, trial):
    """`TRIALSTREAM_SYNC_WRITES=1` has the same effect."""
    monkeypatch.setenv("TRIALSTREAM_SYNC_WRITES", "1")
    async with ts.connect() as writer:
        await writer.log_trial_metrics(trial, loss=0.5)
        monkeypatch.delenv("TRIALSTREAM_SYNC_WRITES")
        async with connected(served, read_only=True) as reader:
            assert (await seen(reader, trial)).rows == 1


# --- Errors


async def test_while_no_consumer_runs(config, consumer, monkeypatch):
    """Without a consumer, a call ends at its timeout with the lag; its event is in the log and is folded later."""
    service = consumer(config)
    async with connected(config) as protocol, connected(config, sync_writes=True) as writer:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        with paused(service), monkeypatch.context() as patch:
            patch.setattr(writer._session, "timeout", 1)
            began = time.monotonic()
            with pytest.raises(ts.ProjectionBehind, match="1 event behind"):
                await writer.log_trial_start(trial)
            with pytest.raises(ts.ProjectionBehind, match="2 events behind"):
                await writer.log_trial_metrics(trial, step=1, loss=0.5)
            elapsed = time.monotonic() - began
        await writer.log_trial_finish(trial)
        found = await again(protocol, trial)

    assert 2 <= elapsed < 8
    assert (found.rows, found.starts, found.status, found.lost_events) == (1, 1, ts.Status.Completed, 0)
    assert found.chronos["runtime"].sum > 1  # the start was recorded when it was logged


async def test_while_kafka_does_not_answer(stack, served, protocol, trial, monkeypatch):
    """While Kafka does not answer, a call ends at its timeout; its event stays queued and arrives later."""
    async with connected(served, sync_writes=True) as writer:
        await writer.add_trial_tags(trial, first=1)
        with paused(stack.kafka), monkeypatch.context() as patch:
            patch.setattr(writer._session, "timeout", 1)
            with pytest.raises(ts.CommitTimeout, match=r"not acknowledged 1 event in 1 s; they stay queued"):
                await writer.add_trial_tags(trial, second=2)
    await protocol.commit("folded")

    assert (await protocol.fetch_trials({"uid": trial.uid}, latest=True))[0].tags == {"first": 1, "second": 2}


async def test_creations_if_kafka_was_never_reached(served, tmp_path):
    """A creation is not left undecided: it ends at its timeout, with `auto_increment` too."""
    nowhere = {"kafka": "127.0.0.1:1", "mongo": served.mongo, "prefix": served.prefix, "spool_dir": str(tmp_path)}
    with pytest.warns(RuntimeWarning, match=r"does not answer|were not sent"):
        async with ts.connect(**nowhere, sync_writes=True, timeout=0.5) as writer:
            for auto_increment in (False, True):
                with pytest.raises(ts.CommitTimeout):
                    await writer.new_trial(ts.Trial(name="t"), auto_increment=auto_increment)
            with pytest.raises(ts.CommitTimeout):
                await writer.new_project(ts.Project(name="p"))
            with pytest.raises(ts.CommitTimeout):
                await writer.new_trial_group(ts.TrialGroup(name="g"))
