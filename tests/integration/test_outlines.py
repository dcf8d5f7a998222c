"""Outlines of long histories: written by the consumer, read beside the open buckets, shown by the dashboard."""

from __future__ import annotations

import math
import uuid

import numpy as np
import pytest
import trialstream as ts
from contract import connected
from pymongo import MongoClient
from service_support import collections, live
from trialstream import sync
from trialstream_console.dashboard import histories, series
from trialstream_console.dashboard.histories import CurveKey, Glance, Histories
from trialstream_console.dashboard.refusals import Refusal
from trialstream_consumer.replay.verify import verify

ROWS = 5000  # four full buckets, and an open one
SPIKE, HOLE = 2345, 1500


def too_late(*_):
    """Take longer than the call may."""
    raise ts.MongoUnavailable("too late")


def value(i):
    """The loss of a row."""
    return {SPIKE: 1e9, HOLE: math.nan}.get(i, math.sin(i / 50))


@pytest.fixture(scope="module")
async def trials(protocol, served):
    """Trials: one of many rows, some of two metrics; one that resumed; one with steps of text; one without rows."""
    name = f"outlines {uuid.uuid4().hex[:8]}"
    long, resumed, texts, empty = [await protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in range(4)]
    await protocol.log_trial_start(resumed, attempt=ts.Attempt("first"))
    for i in range(ROWS):
        await protocol.log_trial_metrics(long, step=2 * i, loss=value(i), **({"acc": float(i)} if i % 2 else {}))
        await protocol.log_trial_metrics(resumed, step=i, loss=float(i))
        await protocol.log_trial_metrics(texts, step=f"s{i}", loss=float(i))
    await protocol.commit("folded")
    async with connected(served) as later:
        await later.log_trial_start(resumed, attempt=ts.Attempt("second", resume_step=100))
        await later.log_trial_metrics(resumed, step=101, loss=-1.0)
        await later.commit("folded")
    return long, resumed, texts, empty


@pytest.fixture
def reader(served):
    """A protocol that blocks and reads."""
    with sync.connect(mongo=served.mongo, prefix=served.prefix, read_only=True) as protocol:
        yield protocol


async def test_an_outline_has_rows_of_its_history(protocol, served, trials):
    """All of its rows are in the history, with the spike and the first NaN; its counts are those of the history."""
    long, resumed, *_ = trials
    async with connected(served, read_only=True) as reader:
        found = await reader.outlines([each.uid for each in (*trials, long)], "loss", "acc", "none")
    whole = await protocol.fetch_metrics(long, attempts=True)

    assert set(found) == {long.uid, resumed.uid}
    assert set(found[long.uid]) == {"loss", "acc"}
    for name, outline in found[long.uid].items():
        history = whole[name]
        at = np.searchsorted(history.rows, outline.rows)
        assert len(outline.rows) < len(history) / 2
        for field in ("rows", "steps", "times", "values"):
            np.testing.assert_array_equal(getattr(outline, field), getattr(history, field)[at])
        assert outline.total == len(history)
    assert found[long.uid]["loss"].specials == (1, 0, 0)
    assert {1e9, 0.0} <= set(found[long.uid]["loss"].values.tolist())
    assert HOLE in found[long.uid]["loss"].rows[np.isnan(found[long.uid]["loss"].values)]
    assert found[resumed.uid]["loss"].total == ROWS + 1


def test_curves_at_once(reader, trials, monkeypatch):
    """A curve of few rows, or in memory, is whole; a long one has its outline, unless rows of it may be superseded."""
    long, resumed, texts, empty = trials
    monkeypatch.setattr(histories, "_GLANCE_VALUES", ROWS - 1)
    known = Histories(2**30)
    keys = [CurveKey(each.uid, "metrics", "loss") for each in trials]
    keys += [keys[0]._replace(by="writer"), keys[1]._replace(attempts=True), keys[0]._replace(name="none")]
    first = known.glance(reader, keys)
    known.read(reader, keys)
    second = known.glance(reader, keys)
    monkeypatch.setattr(histories, "_OUTLINED_VALUES", 2 * ROWS)
    bounded = Histories(2**30).glance(reader, keys)
    monkeypatch.setattr(reader, "outlines", too_late)
    slow = Histories(2**30).glance(reader, keys)

    assert first.pending == [long.uid, resumed.uid, texts.uid]
    assert set(first.read.curves) == {keys[3]}
    assert set(first.outlines) == {keys[0], keys[5]}
    assert first.read.rows == {long.uid: ROWS, resumed.uid: ROWS + 1, texts.uid: ROWS, empty.uid: 0}
    assert second.pending == []
    assert second.outlines == {}
    assert [len(second.read.curves[key].get("", ())) for key in keys] == [ROWS, 102, ROWS, 0, 0, ROWS + 1, 0]
    assert set(bounded.outlines) == {keys[0]}
    assert slow._replace(read=None) == Glance(None, {}, first.pending)
    with pytest.raises(Refusal, match="no trial nobody"):
        known.glance(reader, [CurveKey("nobody", "metrics", "loss")])


def test_the_points_of_outlines(reader, trials, monkeypatch):
    """The points of an outline are no exact ones, and the counts are of all rows."""
    monkeypatch.setattr(histories, "_GLANCE_VALUES", 0)
    drawn = []
    monkeypatch.setattr(series, "_encoded", lambda found, *more: drawn.append((found, more)))
    body = {"curves": [{"trial": trials[0].uid, "name": "loss"}], "x": "step", "width": 4000, "outline": True}
    series._answer(Histories(2**30), reader, body)
    series._answer(Histories(2**30), reader, {**body, "x": "relative", "outline": False})
    [([(curve, points)], (_, _, pending)), ([(_, whole)], (_, _, none))] = drawn

    assert (pending, none) == ([trials[0].uid], ())
    assert (points.exact, points.total, points.specials.nan, len(points.specials.x)) == (False, ROWS, 1, 1)
    assert (whole.exact, whole.total, whole.specials.nan) == (True, ROWS, 1)
    assert 2 * SPIKE in points.x[points.y == 1e9]
    assert (points.x[0], points.x[-1]) == (0, 2 * (ROWS - 1))
    assert curve.outline.total == ROWS
    for part in ({"from": 0}, {"until": 1}, {"since": {}}, {"x": {"metric": "acc"}}):
        with pytest.raises(Refusal, match="expected whole curves"):
            series._answer(Histories(2**30), reader, {**body, **part})


async def test_outlines_that_are_missing_or_differ(served, trials):
    """Without one of a bucket there is none of its history; `verify` reports those that are missing or differ."""
    long, *_ = trials
    differences = []
    with MongoClient(served.mongo) as client:
        stored = collections(client, live(served))["outlines"]
        all_of_it = list(stored.find({"_id": {"$regex": f"^{long.uid}/"}}))
        try:
            stored.delete_one({"_id": all_of_it[0]["_id"]})
            async with connected(served, read_only=True) as reader:
                found = await reader.outlines([long.uid], "loss", "acc")
            stored.update_one({"_id": all_of_it[1]["_id"]}, {"$set": {"rows.loss": b""}})
            await verify(served, differences.append, lambda *_: None)
        finally:
            for each in all_of_it:
                stored.replace_one({"_id": each["_id"]}, each, upsert=True)

    assert len(all_of_it) == 4
    assert len(found.get(long.uid, {})) < 2
    assert {(each.id, each.kind, *each.fields) for each in differences if each.collection == "outlines"} == {
        (all_of_it[0]["_id"], "missing"),
        (all_of_it[1]["_id"], "differs", "rows.loss"),
    }
