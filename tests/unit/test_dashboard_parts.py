"""The parts of the dashboard's endpoints: shared results, importance, events as JSON, values of requests."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace
from typing import Annotated

import anyio
import anyio.lowlevel
import numpy as np
import pytest
import trialstream as ts
from trialstream_console.dashboard import dead_letters, importance, sampling
from trialstream_console.dashboard.caches import Recent
from trialstream_console.dashboard.encoding import dumps, encoded
from trialstream_console.dashboard.event_fields import event_fields, summary
from trialstream_console.dashboard.events import _page
from trialstream_console.dashboard.lines import NO_BLOCKS
from trialstream_console.dashboard.pasts import Past
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.shapes import Limits, checked
from trialstream_console.dashboard.writes import _decoded
from trialstream_console.queries.errors import WhereError
from trialstream_consumer.projection.dead_letters import DeadLetter
from trialstream_consumer.replay.trial_log import TrialRecord
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import SchemaStore, encode


async def test_a_recent_result_is_made_once():
    """Requests that come together share a result, and the longest unused one is dropped."""
    made = []

    async def make():
        made.append(len(made))
        await anyio.lowlevel.checkpoint()
        return made[-1]

    recent = Recent(60.0, 2)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(recent.get, "a", make)
    assert made == [0]
    assert await recent.get("b", make) == 1
    assert await recent.get("a", make) == 0
    assert await recent.get("c", make) == 2
    assert await recent.get("a", make) == 0
    assert await recent.get("b", make) == 3
    assert await Recent(0.0, 1).get("a", make) == 4


async def test_a_slow_result_holds_up_no_other_key():
    """Requests for its key wait; those for others do not. A failed one is made again by the next that waits."""
    recent, go_on, made = Recent(60.0, 8), anyio.Event(), []

    async def slow():
        made.append("slow")
        await go_on.wait()
        if len(made) < 3:
            raise ValueError
        return "slow"

    async def fast():
        made.append("fast")
        return "fast"

    async def get():
        with contextlib.suppress(ValueError):
            assert await recent.get("a", slow) == "slow"

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(get)
        await anyio.wait_all_tasks_blocked()
        assert await recent.get("b", fast) == "fast"
        go_on.set()
    assert made == ["slow", "fast", "slow"]
    assert not recent._making


async def test_a_sample_of_a_relative_time_is_shared():
    """The key is the text: what it is parsed to has the time of the request."""
    made = []

    class Context:
        async def in_thread(self, function):
            """Count the call."""
            made.append(function)
            return sampling.Sample([], [], 0)

        async def compute(self, function, *args):
            """Compute."""
            return function(*args)

    context = Context()
    for where in ("created > 2h ago", " created > 2h ago ", "created > 3h ago"):
        await sampling.sample_of(context, where, None, None)
    with pytest.raises(WhereError):
        await sampling.sample_of(context, "created >", None, None)

    assert len(made) == 2


def important(rows, monkeypatch, *, forest):
    """Return the importance of the parameters of rows: those of a trial, and the target."""
    if not forest:
        monkeypatch.setattr(importance, "_forest", lambda: None)
    names = list(dict.fromkeys(name for parameters, _ in rows for name in parameters or {}))
    paths = [f"parameters.{each}" for each in names]
    return importance.weighed(paths, [(y, *((given or {}).get(each) for each in names)) for given, y in rows])


@pytest.mark.parametrize("forest", [False, True])
def test_what_determines_the_target_is_most_important(forest, monkeypatch):
    """A number or a category that determines the target comes first; a random one and a missing target do not count."""
    if forest:
        pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(90):
        kind = "abc"[i % 3]
        rows.append(
            (
                {
                    "kind": kind,
                    "noise": float(rng.random()),
                    "same": 1,
                    "odd": None if i % 2 else [1],
                    "deep.x": i,
                },
                {"a": 1.0, "b": 5.0, "c": 9.0}[kind],
            )
        )
    rows += [({"kind": "a"}, None), ({"kind": "a"}, float("nan")), ({"kind": "a"}, "text"), (None, True)]
    found = important(rows, monkeypatch, forest=forest)

    assert (found["trials"], found["method"]) == (90, "forest" if forest else "correlation")
    assert found["parameters"][0]["path"] == "parameters.kind"
    assert found["parameters"][0]["correlation"] is None
    assert found["parameters"][0]["importance"] > 0.9
    assert found["parameters"][0]["values"] == 3
    assert {each["path"] for each in found["parameters"]} == {
        *("parameters.kind", "parameters.noise", "parameters.odd", "parameters.deep.x")
    }
    assert dumps(found)


@pytest.mark.parametrize(
    "rows", [[], [({"a": 1}, 1.0)] * 2, [({"a": i}, 1.0) for i in range(9)]], ids=["0", "2", "same"]
)
def test_too_little_to_compare(rows, monkeypatch):
    """Without trials, with few, and with a target that is always the same, nothing is important."""
    for forest in (False, True):
        found = important(rows, monkeypatch, forest=forest)
        assert all(each["importance"] == 0 for each in found["parameters"])


@pytest.mark.parametrize("special", [None, np.nan, np.inf, -np.inf], ids=str)
def test_blocks_of_many_rows(special):
    """The extremes of blocks are those of their finite values, also of rows that came in parts."""
    values = np.random.default_rng(0).normal(size=100_005)
    if special is not None:
        values[::7], values[64:80] = special, special
    blocks = NO_BLOCKS
    for end in (10, 50_000, len(values)):
        blocks = blocks.extended(values[:end])

    rows = values[:100_000].reshape(-1, 16)
    finite = np.isfinite(rows)
    assert blocks.lows.tolist() == np.where(finite, rows, np.inf).min(axis=1).tolist()
    assert blocks.highs.tolist() == np.where(finite, rows, -np.inf).max(axis=1).tolist()


VALUES = [
    *(None, True, 1, -(2**62), 1.5, float("inf"), float("-inf"), "text", b"\0\xff", [1, {"a": b""}]),
    {"$float": "NaN"},
    {"a": {"$x": {"$dict": 1}}, "": []},
]


@pytest.mark.parametrize("value", VALUES, ids=map(str, range(len(VALUES))))
def test_values_of_requests_are_those_that_were_encoded(value):
    """Every value has one form in JSON, which is read back."""
    assert _decoded(json.loads(dumps(encoded(value))), "x") == value


@pytest.mark.parametrize("value", [{"$float": "0"}, {"$int": "x"}, {"$int": "1" * 30}, {"$bytes": "="}, {"$x": 1}])
def test_other_objects_are_refused(value):
    """An object with a key that begins with `$` is a form of a value, or refused with its place."""
    with pytest.raises(Refusal) as raised:
        _decoded([1, {"a": value}], "tags.x")

    assert raised.value.body["error"]["place"] == "tags.x[1].a"


def test_long_events_are_cut():
    """The fields of an event have bounded lists and texts, and are JSON."""
    base = {"time": 1, "trial": "t_0", "writer": "w", "seq": 1}
    rows = e.MetricsLogged(
        **base,
        aggregator=AggregatorSpec("timeseries"),
        names=[f"m{i}" for i in range(300)],
        times=np.arange(500),
        columns=[np.full(500, np.nan)] * 300,
        steps=np.arange(500),
    )
    tags = e.TagsAdded(**base, values={f"$k{i}": "x" * 100_000 for i in range(200)})
    updated = e.TrialUpdated(**base, updates=[e.StatusSet(**base, status=e.StatusRecord(name="Running", code=100))])

    for event in (rows, tags, updated):
        fields = event_fields(event)
        assert fields["kind"] == type(event).__name__
        assert len(dumps(fields)) < 2_000_000
        assert len(summary(event)) <= 200
    assert event_fields(rows)["times"][-1] == "… 400 more"
    assert event_fields(rows)["columns"][0][0] == {"$float": "NaN"}
    assert summary(rows).startswith("m0, m1, m2, m3, m4 and 295 more: 500 rows, steps 0 to 499")
    assert summary(updated) == "StatusSet Running"
    assert event_fields(updated)["updates"][0]["kind"] == "StatusSet"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Annotated[list[str], Limits(most=3)], [1] * 100_000),
        (Annotated[dict[str, int], Limits(most=3)], dict.fromkeys(map(str, range(100_000)))),
    ],
    ids=["list", "dict"],
)
def test_lengths_are_checked_before_items(kind, given):
    """A list or dict that is too long is refused before any of its items is looked at."""
    with pytest.raises(Refusal, match="x: expected at most 3 items, got 100000"):
        checked(given, kind, "x")


def test_paths_of_a_sample_are_bounded():
    """Long keys of dicts are repeated in many paths, which take a bounded size together."""
    deep = {"k" * 1000: {"l" * 1000: {f"n{i}": i for i in range(5000)}}}
    found = sampling._counted([ts.Trial(name="deep", parameters=deep)])

    assert len(found.columns) == len(found.counts) > 1000
    assert sum(len(each.path) for each in found.columns) < sampling._MAX_PATHS + 3000


def test_dead_letters_of_a_page_are_bounded():
    """A page has the first records that take little together, and at least one."""

    def letter(mebibytes):
        return DeadLetter("t", 0, 1, "why", 1, bytes(mebibytes * 1024 * 1024))

    assert len(dead_letters._within([letter(1)] * 10)) == 4
    assert len(dead_letters._within([letter(10), letter(1)])) == 1
    assert dead_letters._within([]) == []


def test_a_page_of_events_has_the_kinds_of_all():
    """A page of any events has the kinds of all; unreadable events are chosen as a kind, too."""
    heartbeat = encode(e.Heartbeat(trial="a_0", writer="w", seq=1, time=0))
    tags = encode(e.TagsAdded(trial="a_0", writer="w", seq=2, time=0, values={"a": 1}))
    values = [tags, heartbeat, heartbeat, tags[:-1], b"no event"]
    records = [TrialRecord(offset, 0, value) for offset, value in enumerate(values)]
    past = Past(SimpleNamespace(records=records, schemas=SchemaStore(), partition=0), None, True)
    pages = [_page(past, "", 1, frozenset(kinds), True) for kinds in ([], ["Heartbeat"], ["unreadable"])]

    assert [each["kinds"] for each in pages] == [["Heartbeat", "TagsAdded", "unreadable"]] * 3
    assert [each["events"][0]["offset"] for each in pages] == [4, 2, 4]
    unreadable = _page(past, "", 9, frozenset(["unreadable"]), True)["events"]
    assert [each["offset"] for each in unreadable] == [4, 3]
