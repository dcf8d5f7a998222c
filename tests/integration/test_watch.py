"""`trialstream.watch` on the servers and in memory: what comes, in which order, and that no change is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid

import anyio
import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from contract import connected, until
from pymongo import MongoClient
from trialstream_schemas.storage.collections import CATALOG, LIVE, Namespace
from trialstream_schemas.storage.documents import trial_to_document

SECONDS = 30


@pytest.fixture(params=["servers", "memory"], scope="module")
async def place(request):
    """A protocol that logs, and the arguments with which a watch sees what it logs."""
    if request.param == "memory":
        url = f"memory:{uuid.uuid4().hex}"
        async with ts.connect(url) as protocol:
            yield protocol, {"url": url}
    else:
        config = request.getfixturevalue("served")
        async with connected(config) as protocol:
            yield protocol, {"mongo": config.mongo, "prefix": config.prefix}


async def following(watch, count=1):
    """Return the next changes of an open watch."""
    found = []
    with anyio.fail_after(SECONDS):
        async with contextlib.aclosing(aiter(watch)) as changes:
            while len(found) < count:
                found.append(await anext(changes))
    return found


async def other_than(watch, uid):
    """Return the next change of another trial: heartbeats of a running one are changes, too."""
    while True:
        [change] = await following(watch)
        if change.uid != uid:
            return change


async def next_batch(watch):
    """Return the changes of the next look of an open watch."""
    with anyio.fail_after(SECONDS):
        async with contextlib.aclosing(watch.batches()) as batches:
            return await anext(batches)


async def test_what_matches_comes_first_then_what_changes_and_what_matches_no_more(place, name):
    """A trial that begins to match comes like any change; one that stops comes once, with its state."""
    protocol, arguments = place
    first, second = [await protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in (1, 2)]
    await protocol.set_trial_status(first, ts.Status.Running)
    await protocol.commit("folded")
    async with ts.watch({"name": name, "status": "Running"}, **arguments) as watch:
        [change] = await following(watch)
        assert (change.uid, change.matches, change.trial.status) == (first.uid, True, ts.Status.Running)

        await protocol.set_trial_status(second, ts.Status.Running)
        [change] = await following(watch)
        assert (change.uid, change.matches) == (second.uid, True)

        await protocol.set_trial_status(first, ts.Status.Completed)
        change = await other_than(watch, second.uid)
        assert (change.uid, change.matches, change.trial.status) == (first.uid, False, ts.Status.Completed)

        await protocol.add_trial_tags(first, later=True)  # matched once, and does not any more
        await protocol.commit("folded")
        await protocol.add_trial_tags(second, later=True)
        [change] = await following(watch)
        assert (change.uid, change.trial.tags) == (second.uid, {"later": True})


async def test_only_the_fields_that_were_asked_for_are_read(place, name):
    """Trials are partial, as those of `fetch_trials` with `fields`."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name=name))
    await protocol.log_trial_metrics(trial, step=1, loss=0.5, accuracy=0.1)
    await protocol.commit("folded")
    async with ts.watch({"name": name}, fields=["metrics.loss"], **arguments) as watch:
        [change] = await following(watch)

    [expected] = await protocol.fetch_trials({"name": name}, fields=["metrics.loss"])
    assert change.trial == expected


async def test_changes_from_now_on(place, name):
    """With since="now", what matches at the start does not come, and yet it is seen that it stops matching."""
    protocol, arguments = place
    trial, other = [await protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in (1, 2)]
    await protocol.commit("folded")
    async with ts.watch({"name": name, "status": "CreatedGroup"}, since="now", **arguments) as watch:
        await protocol.set_trial_status(trial, ts.Status.Running)
        [change] = await following(watch)
        assert (change.uid, change.matches) == (trial.uid, False)
        await protocol.add_trial_tags(other, x=1)
        assert [(each.uid, each.matches) for each in await following(watch)] == [(other.uid, True)]


async def test_the_ids_of_all_trials_are_read_without_the_trials(served):
    """A watch of all trials begins quickly, however large they are."""
    config = dataclasses.replace(served, prefix=f"watch-{uuid.uuid4().hex[:8]}")
    with MongoClient(config.mongo) as mongo:
        database = mongo[config.database]
        database.trials.insert_many(trial_to_document(ts.Trial(name=f"{n}")) for n in range(10))
        database.command("profile", 2)
        async with ts.watch(since="now", mongo=config.mongo, prefix=config.prefix):
            pass
        database.command("profile", 0)
        [read] = database.system.profile.find({"op": "query", "command.find": "trials"})
        mongo.drop_database(config.database)

    assert (read["nreturned"], read["docsExamined"]) == (10, 0)


async def test_a_cursor_continues_where_a_watch_ended(place, name):
    """Changes while nothing watched come later, once each; a trial that matches no more is among them."""
    protocol, arguments = place
    trials = [await protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in range(4)]
    await protocol.commit("folded")
    query = {"name": name, "status": {"$in": ["CreatedGroup", "Running"]}}
    async with ts.watch(query, **arguments) as watch:
        assert watch.cursor is None
        changes = await following(watch, 4)
        await next_idle(watch)
        cursor = watch.cursor
    assert {each.uid for each in changes} == {each.uid for each in trials}
    assert len(cursor) < 500

    await protocol.add_trial_tags(trials[0], x=1)
    await protocol.set_trial_status(trials[1], ts.Status.Broken)
    await protocol.set_trial_status(trials[2], ts.Status.Running)
    await protocol.commit("folded")
    async with ts.watch(query, since=cursor, interval=0.5, **arguments) as watch:
        assert watch.cursor == cursor
        changes = await following(watch, 3)
        await protocol.add_trial_tags(trials[3], x=1)
        changes += await following(watch)
    assert {each.uid: each.matches for each in changes} == {
        trials[0].uid: True,
        trials[1].uid: False,
        trials[2].uid: True,
        trials[3].uid: True,
    }


async def next_idle(watch):
    """Let a watch look until its cursor is newer than what was returned."""
    with anyio.move_on_after(1):
        await following(watch)


async def test_many_quick_changes_of_one_trial_come_together(place, name):
    """A thousand rows between two looks are one change, which has the last of them."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name=name))
    async with ts.watch({"name": name}, interval=0.5, **arguments) as watch:
        await following(watch)
        for step in range(1000):
            await protocol.log_trial_metrics(trial, step=step, loss=1 / (1 + step))
            if step % 50 == 0:
                await protocol.add_trial_tags(trial, step=step)
        await protocol.commit("folded")
        changes = []
        while not changes or changes[-1].trial.rows < 1000:
            changes += await following(watch)
    assert len(changes) < 20
    assert changes[-1].trial.metrics["loss"].last == 1 / 1000


async def test_a_loop_that_was_left_loses_no_change(place, name):
    """A loop that is cancelled while it waits, or in the middle of a batch, goes on with the next loop."""
    protocol, arguments = place
    trials = [await protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in range(3)]
    await protocol.commit("folded")
    async with ts.watch({"name": name}, **arguments) as watch:
        found = [each.uid for _ in trials for each in await following(watch)]
        with anyio.move_on_after(0.3):
            await following(watch)
        await protocol.add_trial_tags(trials[1], x=1)
        [change] = await following(watch)
    assert sorted(found) == sorted(each.uid for each in trials)
    assert change.uid == trials[1].uid


async def test_batches_say_where_a_reset_begins(place, name):
    """The first look is a reset, also if nothing matches; later ones are not."""
    protocol, arguments = place
    async with ts.watch({"name": name}, **arguments) as watch:
        first = await next_batch(watch)
        assert (first.changes, first.reset) == ((), True)
        trial = await protocol.new_trial(ts.Trial(name=name))
        second = await next_batch(watch)
    assert ([each.uid for each in second.changes], second.reset) == ([trial.uid], False)
    assert first.cursor != second.cursor == watch.cursor


async def test_watching_without_async(place, name):
    """`trialstream.sync.watch` returns the same changes."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name=name))
    await protocol.commit("folded")

    def first():
        with ts.sync.watch({"name": name}, **arguments) as watch:
            return next(iter(watch)), next(watch.batches(), None) if watch.cursor else None

    assert (await run_sync(first))[0].uid == trial.uid


async def test_a_cursor_of_another_log_begins_again(place, name):
    """All trials that match come again, in a reset."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name=name))
    await protocol.commit("folded")
    async with ts.watch({"name": name}, since="elsewhere/gmXk", **arguments) as watch:
        found = await next_batch(watch)
    assert ([each.uid for each in found.changes], found.reset) == ([trial.uid], True)


# --- On MongoDB alone: projections that are written here


class Projections:
    """Two projections with the same trials, and the pointer to the live one."""

    def __init__(self, config, client):
        self.places = [Namespace(config.database, end) for end in ("", "~1")]
        self.old, self.new = [client[each.database][each.collection("trials")] for each in self.places]
        self.catalog = client[config.database][CATALOG]
        self.arguments = {"mongo": config.mongo, "prefix": config.prefix}
        self.trials = [trial_to_document(ts.Trial(name="t", parameters={"n": n})) for n in range(3)]
        for trials in (self.old, self.new):
            trials.insert_many(self.trials)
        self.catalog.insert_one({"_id": LIVE, "database": str(self.places[0])})

    def tag(self, trials, n, **tags):
        """Change a trial."""
        trials.update_one({"_id": self.trials[n]["_id"]}, {"$set": {"tags": tags}})

    def switch(self, *, drop):
        """Make the other projection live."""
        self.catalog.update_one({"_id": LIVE}, {"$set": {"database": str(self.places[1])}})
        if drop:
            self.old.drop()


@pytest.fixture
def projections(config):
    """Two projections of a prefix, the first of them live."""
    with MongoClient(config.mongo) as client:
        yield Projections(config, client)


@pytest.mark.parametrize("drop", [True, False], ids=["and the old one is dropped", "and the old one stays"])
async def test_another_projection_becomes_live(projections, drop):
    """All that matches comes again, also what changed in between, and what does not match there comes as such."""
    uids = [each["_id"] for each in projections.trials]
    async with ts.watch({"tags.gone": None}, **projections.arguments) as watch:
        assert [each.uid for each in await following(watch, 3)] == sorted(uids)
        projections.tag(projections.new, 0, gone=True)
        projections.tag(projections.new, 1, new=1)
        projections.new.delete_one({"_id": uids[2]})
        projections.switch(drop=drop)
        changes = await following(watch, 3)
        projections.tag(projections.new, 1, new=2)
        changes += await following(watch)
        cursor = watch.cursor

    by_uid = {each.uid: (each.matches, each.trial and each.trial.tags) for each in changes[:3]}
    assert by_uid == {uids[0]: (False, {"gone": True}), uids[1]: (True, {"new": 1}), uids[2]: (False, None)}
    assert (changes[3].uid, changes[3].trial.tags) == (uids[1], {"new": 2})
    async with ts.watch(since=cursor, **projections.arguments) as watch:
        projections.tag(projections.new, 0, gone=False)
        assert [each.uid for each in await following(watch)] == [uids[0]]


async def test_a_dropped_collection_is_read_again(projections):
    """Trials that were dropped come as gone, and come again once they are folded again."""
    async with ts.watch(**projections.arguments) as watch:
        await following(watch, 3)
        projections.old.drop()
        gone = await following(watch, 3)
        projections.old.insert_one(projections.trials[0])
        [back] = await following(watch)
    assert [(each.trial, each.matches) for each in gone] == [(None, False)] * 3
    assert (back.uid, back.matches) == (projections.trials[0]["_id"], True)


@pytest.mark.parametrize(
    "cursor", ["~", "~/", "~/abc!", "~/gg"], ids=["no slash", "no token", "no base64", "no token of MongoDB"]
)
async def test_a_text_that_is_no_cursor(projections, cursor):
    """The error names the argument."""
    cursor = cursor.replace("~", str(projections.places[0]))
    with pytest.raises(ts.InvalidValue, match="since: expected None, 'now' or the cursor of a watch, got"):
        async with ts.watch(since=cursor, **projections.arguments):
            pass


async def test_mongodb_is_away_and_comes_back(projections, stack):
    """The watch waits, and goes on; what changes at once after the return is not lost."""
    async with ts.watch(timeout=5, **projections.arguments) as watch:
        await following(watch, 3)
        await run_sync(stack.mongo.kill)
        with anyio.move_on_after(1):
            await following(watch)
        await run_sync(stack.mongo.start)
        await until(lambda: _writable(projections))
        projections.tag(projections.old, 1, x=1)
        [change] = await following(watch)
    assert change.trial.tags == {"x": 1}


async def _writable(projections):
    return projections.old.database.client.is_primary
