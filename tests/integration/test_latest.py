"""Reads with `latest=True`: the projection has what the log held at the call, of any writer."""

from __future__ import annotations

import os
import signal
import sys

import anyio
import pytest
import trialstream as ts
import trialstream.sync
import warm
from anyio.to_thread import run_sync
from contract import connected, until
from service_support import delete_topics, drop, paused
from trialstream.event_log.topics import ensure_topics

READS = ["get_project", "get_trial_group", "get_trial"]
READS += ["fetch_trials", "fetch_values", "count_trials", "fetch_groups", "fetch_projects"]
HISTORIES = ["fetch_metrics", "fetch_histories"]

CHILD = """
import sys
import trialstream.sync

kafka, mongo, prefix, uid, number = sys.argv[1:]
with trialstream.sync.connect(kafka=kafka, mongo=mongo, prefix=prefix) as protocol:
    [trial] = protocol.fetch_trials({"uid": uid})
    protocol.log_trial_metrics(trial, step=1, loss=float(number))
    protocol.add_trial_tags(trial, number=int(number))
"""


async def test_all_children_that_have_ended_are_seen(config, consumer, tmp_path):
    """A parent that has joined 8 children sees what all of them have logged, however late the consumer folds it."""
    service = consumer(config)
    async with connected(config) as protocol:
        trials = [await protocol.new_trial(ts.Trial(name="t", parameters={"n": n})) for n in range(8)]
        os.kill(service.pid, signal.SIGSTOP)
        try:
            arguments = [(config.kafka, config.mongo, config.prefix, each.uid, str(n)) for n, each in enumerate(trials)]
            children = [
                warm.WarmProcess([sys.executable, "-c", CHILD, *each], env=os.environ, cwd=tmp_path, stdout=1, stderr=2)
                for each in arguments
            ]
            assert [await run_sync(each.wait) for each in children] == [0] * 8
            before = await protocol.fetch_trials({"tags.number": {"$gte": 0}})
            with anyio.move_on_after(0.2) as waiting:
                await protocol.fetch_trials(latest=True)
        finally:
            os.kill(service.pid, signal.SIGCONT)
        after = await protocol.fetch_trials({"tags.number": {"$gte": 0}}, sort="tags.number", latest=True)
        histories = await protocol.fetch_histories(trials, "loss")

    assert before == []
    assert waiting.cancelled_caught
    assert [each.uid for each in after] == [each.uid for each in trials]
    assert [each["loss"].values.tolist() for each in histories.values()] == [[float(n)] for n in range(8)]


@pytest.mark.parametrize("method", [*READS, *HISTORIES])
async def test_a_latest_read_shows_what_another_writer_has_logged(served, protocol, name, method):
    """Each method that reads shows what another protocol has committed to Kafka just before the call."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=project.uid))
    trial = await protocol.new_trial(ts.Trial(name=name))
    await protocol.log_trial_metrics(trial, step=-1, loss=-1.0)
    given = {"project": project, "group": group, "trial": trial}
    async with connected(served) as other:
        for i in range(10):
            match method:
                case "get_project" | "fetch_projects":
                    more = await protocol.new_trial(ts.Trial(name=name, parameters={"i": i}))
                    await protocol.add_project_trial(project, more)
                case "get_trial_group" | "fetch_groups":
                    await protocol.set_group_metadata(group, i=i)
                case "get_trial" | "fetch_trials" | "fetch_values" | "count_trials":
                    await protocol.add_trial_tags(trial, i=i)
                case _:
                    await protocol.log_trial_metrics(trial, step=i, loss=float(i))
            await protocol.commit("acked")
            match method:
                case "get_project":
                    assert len((await other.get_project(project, latest=True)).trials) == i + 1
                case "fetch_projects":
                    [found] = await other.fetch_projects({"uid": project.uid}, latest=True)
                    assert len(found.trials) == i + 1
                case "get_trial_group":
                    assert (await other.get_trial_group(group, latest=True)).metadata == {"i": i}
                case "fetch_groups":
                    [found] = await other.fetch_groups({"uid": group.uid}, fields=["metadata"], latest=True)
                    assert found.metadata == {"i": i}
                case "get_trial":
                    [found] = await other.get_trial(trial, latest=True)
                    assert found.tags == {"i": i}
                case "fetch_trials":
                    assert len(await other.fetch_trials({"uid": trial.uid, "tags.i": i}, latest=True)) == 1
                case "fetch_values":
                    assert await other.fetch_values(["tags.i"], {"uid": trial.uid}, latest=True) == [(i,)]
                case "count_trials":
                    assert await other.count_trials({"uid": trial.uid, "tags.i": i}, latest=True) == 1
                case "fetch_metrics":
                    found = await other.fetch_metrics(trial, "loss", since_step=i, latest=True)
                    assert found["loss"].values.tolist() == [i]
                case "fetch_histories":
                    found = await other.fetch_histories([trial], since_row=i + 1, latest=True)
                    assert found[trial.uid]["loss"].values.tolist() == [i]
    assert given


async def test_the_history_of_a_trial_that_was_just_created_elsewhere(config, consumer):
    """With `latest`, a trial whose creation is in the log and not folded yet is found."""
    service = consumer(config)
    async with connected(config) as protocol, connected(config, timeout=60) as other:
        os.kill(service.pid, signal.SIGSTOP)
        created = []

        async def create():
            created.append(await protocol.new_trial(ts.Trial(name="t")))

        async def is_acked():
            return protocol.statistics().acked > 0

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(create)
                await until(is_acked)
                tasks.start_soon(_continue_later, service.pid)
                found = await other.fetch_histories([ts.Trial(name="t")], latest=True)
        finally:
            os.kill(service.pid, signal.SIGCONT)

    assert found == {created[0].uid: {}}


async def _continue_later(pid):
    await anyio.sleep(0.2)
    os.kill(pid, signal.SIGCONT)


async def test_own_events_that_are_only_queued(served, name):
    """A latest read first sends what its own protocol has queued, as any read does."""
    async with connected(served) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))
        for i in range(20):
            await protocol.log_trial_metrics(trial, step=i, loss=float(i))
            [found] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)
            assert found.metrics["loss"].last == i


async def test_many_latest_reads_at_once(served, protocol, trial):
    """Concurrent latest reads share one connection, and each sees what was in the log at its call."""
    seen = []

    async def read(other, i):
        [found] = await other.fetch_trials({"uid": trial.uid}, latest=True)
        assert found.tags["i"] >= i
        seen.append(i)

    async with connected(served) as other, anyio.create_task_group() as tasks:
        for i in range(30):
            await protocol.add_trial_tags(trial, i=i)
            await protocol.commit("acked")
            tasks.start_soon(read, other, i)

    assert sorted(seen) == list(range(30))


async def test_a_projection_that_is_folded_again_is_waited_for(config, consumer):
    """Checkpoints that were seen do not count any more once the databases were dropped."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        assert await protocol.fetch_trials(latest=True) == [trial]
        service.stop()
        drop(config)
        with anyio.move_on_after(1) as waiting:
            await protocol.fetch_trials(latest=True)
        service.start()
        assert [each.uid for each in await protocol.fetch_trials(latest=True)] == [trial.uid]

    assert waiting.cancelled_caught


async def test_recreated_topics_are_noticed_by_a_process_that_logs_nothing(config, consumer):
    """The ends of the log are those of the same log as before, or the read is refused."""
    service = consumer(config)
    async with connected(config) as writer:
        trial = await writer.new_trial(ts.Trial(name="t"))
    async with connected(config) as protocol:
        assert [each.uid for each in await protocol.fetch_trials(latest=True)] == [trial.uid]
        service.stop()
        await delete_topics(config)
        await ensure_topics(config)
        with pytest.raises(ts.LogMismatch, match="topics were recreated"):
            await protocol.fetch_trials(latest=True)


# --- Without one of the parts


async def test_without_a_consumer(config):
    """Without a consumer, a latest read ends at its timeout with the lag; a plain one of a reader does not wait."""
    async with connected(config, timeout=5) as protocol:
        assert await protocol.fetch_trials() == []
        with pytest.raises(ts.ProjectionBehind, match=r"1 event behind \(.*registry/0 at offset 0 of 1\).*consume"):
            await protocol.fetch_trials(latest=True)


async def test_while_kafka_does_not_answer(stack, served, name, monkeypatch):
    """While Kafka does not answer, a latest read ends at its timeout; afterwards it works again."""
    async with connected(served) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))
        assert await protocol.get_trial(trial, latest=True) == [trial]
        with paused(stack.kafka), monkeypatch.context() as patch:
            patch.setattr(protocol._session, "timeout", 2)
            assert await protocol.get_trial(trial) == [trial]
            with anyio.fail_after(10), pytest.raises(ts.KafkaUnavailable, match=rf"{served.kafka}.*end of the log in"):
                await protocol.get_trial(trial, latest=True)
        assert await protocol.get_trial(trial, latest=True) == [trial]


async def test_if_kafka_was_never_reached(served, tmp_path):
    """If Kafka was not reached since the start, a latest read says so at once."""
    nowhere = {"kafka": "127.0.0.1:1", "mongo": served.mongo, "prefix": served.prefix, "spool_dir": str(tmp_path)}
    with pytest.warns(RuntimeWarning, match="does not answer"):
        async with ts.connect(**nowhere, timeout=60) as protocol:
            await protocol.fetch_trials({"name": "nothing"})
            with anyio.fail_after(5), pytest.raises(ts.KafkaUnavailable, match=r"127\.0\.0\.1:1 was not reached"):
                await protocol.fetch_trials(latest=True)


async def test_offline(tmp_path):
    """Offline, a latest read is refused as any read is."""
    async with ts.connect(offline=True, spool_dir=str(tmp_path)) as protocol:
        with pytest.raises(ts.Offline):
            await protocol.fetch_trials(latest=True)


@pytest.mark.parametrize("method", [*READS, *HISTORIES])
async def test_read_only(served, protocol, trial, method):
    """A read-only protocol refuses `latest`, since the end of the log is in Kafka, and names the setting to change."""
    given = {
        "get_project": [ts.Project(name="p")],
        "get_trial_group": [ts.TrialGroup(name="g")],
        "get_trial": [trial],
        "fetch_values": [["uid"]],
        "fetch_metrics": [trial],
        "fetch_histories": [[trial]],
    }.get(method, [])
    async with connected(served, read_only=True) as reader:
        with pytest.raises(
            ts.ProjectionIsReadOnly, match=r"^latest: .* connect without `read_only` and TRIALSTREAM_READ"
        ):
            await getattr(reader, method)(*given, latest=True)


# --- Without async


async def test_without_async(served, protocol, trial):
    """The protocol for code that is not async takes `latest` in the same methods."""

    def read():
        with trialstream.sync.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix) as reader:
            return (
                reader.get_trial(trial, latest=True)[0].tags,
                reader.fetch_trials({"uid": trial.uid}, latest=True)[0].tags,
                reader.fetch_metrics(trial, latest=True),
                reader.get_project(ts.Project(name="none"), latest=True),
                reader.get_trial_group(ts.TrialGroup(name="none"), latest=True),
                reader.fetch_groups({"name": "none"}, latest=True),
                reader.fetch_projects({"name": "none"}, latest=True),
            )

    await protocol.add_trial_tags(trial, seen=True)
    await protocol.commit("acked")

    assert await run_sync(read) == ({"seen": True}, {"seen": True}, {}, None, None, [], [])
