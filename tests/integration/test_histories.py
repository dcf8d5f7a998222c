"""`fetch_histories`: the histories of many trials in one query."""

from __future__ import annotations

import functools
import uuid

import anyio
import numpy as np
import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from contract import connected
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.monitoring import CommandListener
from trialstream.reading import mongo

BUCKET = 1024


class Commands(CommandListener):
    """The commands on histories that a client sends."""

    def __init__(self):
        self.sent = []

    def started(self, event):
        """Keep a command."""
        if event.command.get("find") == "series" or event.command.get("collection") == "series":
            self.sent.append(event.command)

    def succeeded(self, event):
        """Ignore an answer."""

    def failed(self, event):
        """Ignore an error."""


@pytest.fixture
def commands(monkeypatch):
    """The commands on histories that readers send which are made in this test."""
    listener = Commands()
    client = functools.partial(AsyncIOMotorClient, event_listeners=[listener])
    monkeypatch.setattr(mongo, "AsyncIOMotorClient", client)
    return listener


@pytest.fixture(scope="module")
async def trials(protocol):
    """Trials of which the first has no history, and the others more and more rows, of several shapes."""
    name = f"histories {uuid.uuid4().hex[:8]}"
    created = [await protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in range(6)]
    for n, trial in enumerate(created):
        for i in range(n * 500):
            values = {"loss": i / (n + 1)} | ({"accuracy": float(-i)} if i % 3 else {})
            await protocol.log_trial_metrics(trial, step=i if i % 2 else f"s{i}", **values)
    await protocol.log_trial_metrics(created[-1], step=1, aggregator=ts.StatAggregator.lazy(), stat=1.0)
    await protocol.commit("folded")  # other protocols do not wait for what this one wrote
    return created


def plain(history):
    """Return a history as lists."""
    return [getattr(history, key).tolist() for key in ("steps", "times", "writers", "values", "rows")]


OPTIONS = [
    {},
    {"since_step": 700},
    {"since_step": "s2"},
    {"since_row": 1500},
    {"since_row": 10**6},
    {"max_points": 10},
    {"section": "chronos"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("names", [(), ("loss",), ("accuracy", "loss")], ids=str)
async def test_the_histories_of_many_trials(protocol, trials, names, options):
    """The histories of each trial are those that `fetch_metrics` returns; a trial without one of a name lacks it."""
    found = await protocol.fetch_histories(trials, *names, **options)
    one_by_one = {trial.uid: await protocol.fetch_metrics(trial, **options) for trial in trials}

    assert list(found) == [trial.uid for trial in trials]
    for uid, whole in one_by_one.items():
        wanted = {key: each for key, each in whole.items() if not names or key in names}
        assert list(found[uid]) == list(wanted)
        assert [plain(each) for each in found[uid].values()] == [plain(each) for each in wanted.values()]
    assert found[trials[0].uid] == {}
    assert options.get("section") or [len(each) for each in found.values()] == [0] + 5 * [len(names) or 2]


async def test_one_query(served, commands, trials):
    """All trials are read by one query, in the order of its index: MongoDB sorts nothing, and holds no result."""
    async with connected(served) as reader:
        found = await reader.fetch_histories(trials, "loss", since_row=10)
        sent = list(commands.sent)
        client = AsyncIOMotorClient(served.mongo)
        command = {key: each for key, each in sent[0].items() if key in ("find", "filter", "projection", "sort")}
        explained = await client[served.prefix].command({"explain": command})
        client.close()

    assert [next(iter(each)) for each in sent] == ["find"]
    assert 20_000 < sent[0]["maxTimeMS"] <= 30_000
    assert len(found) == len(trials)
    assert "IXSCAN" in str(explained)
    assert "'SORT'" not in str(explained)


async def test_trials_of_other_protocols_are_looked_up_together(served, commands, trials):
    """Trials that a protocol has neither created nor fetched are looked up in one query; a missing one is named."""
    async with connected(served) as protocol, connected(served, read_only=True) as reader:
        for each in (protocol, reader):
            found = await each.fetch_histories(iter([*trials, *trials]), "accuracy")
            assert list(found) == [trial.uid for trial in trials]
            assert [len(history) for history in found.values()] == [0, 1, 1, 1, 1, 1]
            with pytest.raises(ts.ItemNotFound, match="'nobody'"):
                await each.fetch_histories([*trials, ts.Trial(name="nobody")])


async def test_no_trials(protocol):
    """Without trials, the result is empty."""
    assert await protocol.fetch_histories([]) == {}
    assert await protocol.fetch_histories((), "loss", max_points=3) == {}


@pytest.mark.parametrize(
    ("given", "options", "error", "named"),
    [
        pytest.param(1, {}, ts.InvalidType, r"trials: expected a list of trials, got int", id="a number"),
        pytest.param("uid", {}, ts.InvalidType, r"trials\[0\]: expected a Trial, got str", id="a text"),
        pytest.param(ts.Trial(name="t"), {}, ts.InvalidType, "trials: expected a list of trials, got Trial", id="one"),
        pytest.param([ts.Trial(name="t"), None], {}, ts.InvalidType, r"trials\[1\]", id="None among them"),
        pytest.param([], {"since_step": [1]}, ts.InvalidType, "since_step", id="a list for a step"),
        pytest.param([], {"since_row": -1}, ts.InvalidValue, "since_row", id="a negative row"),
        pytest.param([], {"max_points": 2}, ts.InvalidValue, "max_points", id="two points"),
        pytest.param([], {"section": "parameters"}, ts.InvalidValue, "section", id="an unknown section"),
    ],
)
async def test_invalid_arguments(protocol, given, options, error, named):
    """Invalid arguments are refused with the name of the parameter."""
    with pytest.raises(error, match=named):
        await protocol.fetch_histories(given, **options)


async def addressed_by_creation(served, trial):
    """Return a trial as its creator has it before its revision is known."""
    client = AsyncIOMotorClient(served.mongo)
    outcome = await client[served.prefix].outcomes.find_one({"uid": trial.uid, "copy_of": None})
    client.close()
    return ts.Trial(name=trial.name, created=trial.created, request=outcome["_id"].partition("~")[2])


async def test_histories_of_undecided_trials(served, tmp_path, name):
    """A trial that is addressed by its creation is found under the uid that the passed object has."""
    writer = ts.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix, spool_dir=str(tmp_path))
    async with writer as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        await protocol.commit("folded")
        undecided = await addressed_by_creation(served, trial)
        found = await protocol.fetch_histories([undecided, trial], "loss")
    async with connected(served, read_only=True) as reader:
        seen = await reader.fetch_histories([undecided], "loss")

    assert list(found) == [undecided.uid, trial.uid]
    assert [each["loss"].values.tolist() for each in found.values()] == [[0.5], [0.5]]
    assert seen[undecided.uid]["loss"].values.tolist() == [0.5]


async def test_an_undecided_trial_is_resolved_by_several_calls_at_once(served, name):
    """Calls that wait for the same outcome all get it."""
    async with connected(served) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        await protocol.commit("folded")
    undecided = await addressed_by_creation(served, trial)
    found = []
    async with connected(served, timeout=10) as protocol, anyio.create_task_group() as tasks:

        async def fetch():
            found.append(await protocol.fetch_metrics(undecided, "loss"))

        for _ in range(5):
            tasks.start_soon(fetch)

    assert [each["loss"].values.tolist() for each in found] == [[0.5]] * 5


def test_trials_of_a_generator_that_calls_the_protocol(served, name):
    """`trialstream.sync` iterates in the thread of the call."""
    with trialstream.sync.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix) as protocol:
        trials = [protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in range(3)]
        found = protocol.fetch_histories(protocol.get_trial(each)[0] for each in trials)

    assert found == {each.uid: {} for each in trials}


async def test_histories_are_read_while_they_grow(served, protocol, name):
    """Each read of growing histories returns a beginning of each, with no row missing or doubled."""
    trials = [await protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in range(8)]
    rows, lengths = 12 * BUCKET, []

    async def read(other):
        while not lengths or lengths[-1] < rows:
            found = await other.fetch_histories(trials)
            for each in found.values():
                assert all((history.steps == np.arange(len(history))).all() for history in each.values())
            lengths.append(min(len(each["loss"]) if each else 0 for each in found.values()))

    async with connected(served) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(read, other)
        for i in range(rows):
            for trial in trials:
                await protocol.log_trial_metrics(trial, step=i, loss=i)
            if i % 500 == 0:
                await protocol.commit()

    assert lengths == sorted(lengths)


async def test_histories_without_async(served, trials):
    """The protocol for code that is not async has the same method."""

    def read():
        with trialstream.sync.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix) as protocol:
            return protocol.fetch_histories(trials, "loss", since_step=100, max_points=3, latest=True)

    found = await run_sync(read)

    lengths = [len(each["loss"]) if each else 0 for each in found.values()]

    assert lengths == [0, 2, 2, 2, 2, 2]  # the extremes are the ends
