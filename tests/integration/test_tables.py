"""Reads for tables and lists of the dashboard: bounded values, headings, and counts, on MongoDB and in memory."""

from __future__ import annotations

import pytest
import trialstream as ts
from bson import encode
from trialstream.reading.values import LongValue


def stored(value):
    """Return the size of a value in BSON."""
    return len(encode({"v": value}))


VALUES = {
    "text": "ab" * 60,
    "wide": "ü" * 60,
    "surrogates": "\U0001f600" * 30,
    "dict": {"a": {"b": list(range(12))}},
    "list": [[1, "x"]] * 8,
    "bytes": bytes(100),
    "number": 1.5,
    "none": None,
    "flag": True,
}


@pytest.mark.parametrize("most", [16, 64, 120, 200])
async def test_cells(protocol, name, most):
    """A value that takes more than the maximum is its type, its size, and the beginning of a text; others are whole."""
    trial = await protocol.new_trial(ts.Trial(name=name, parameters=VALUES, description="d" * 300))
    await protocol.commit("folded")
    paths = [f"parameters.{each}" for each in VALUES]
    [row] = await protocol.fetch_cells(
        ["uid", "name", "status", "created", "description", *paths, "tags.none"], {"uid": trial.uid}, max_bytes=most
    )
    types = {str: "string", dict: "object", list: "array", bytes: "binData"}

    def cell(value):
        if type(value) not in types or stored(value) <= most:
            return value
        return LongValue(types[type(value)], value[: most // 4] if isinstance(value, str) else "", stored(value))

    assert row[:2] == (trial.uid, name)
    assert row[4:] == (*map(cell, ["d" * 300, *VALUES.values()]), None)


@pytest.mark.parametrize("most", [40, 1_000_000])
async def test_cells_of_whole_fields(protocol, name, most):
    """Fields of many values, of which each is an object, are cut as well."""
    trial = await protocol.new_trial(ts.Trial(name=name))
    await protocol.log_trial_start(trial, attempt=ts.Attempt("a", rank=0))
    await protocol.log_trial_metrics(trial, step=1, loss=1.0)
    await protocol.log_trial_finish(trial, ValueError, ValueError("x" * 200), None)
    await protocol.commit("folded")
    fields = ["metrics", "chronos", "errors", "attempts", "participants", "former_participants", "writers"]
    [cells] = await protocol.fetch_cells(fields, {"uid": trial.uid}, max_bytes=most)
    [values] = await protocol.fetch_values(fields, {"uid": trial.uid})

    if most > 40:
        assert repr(cells) == repr(values)
    else:
        assert [each.type for each in cells[:5]] == ["object", "object", "array", "array", "object"]
        assert cells[5] == {}


async def test_headings_and_counts(protocol, name):
    """Headings have the beginnings of descriptions, the latest first, and counts are those of the trials."""
    projects = [await protocol.new_project(ts.Project(name=f"{name} {n}", description="ö" * 2000)) for n in range(3)]
    groups = [await protocol.new_trial_group(ts.TrialGroup(name=f"g{n}", project_id=projects[0].uid)) for n in range(2)]
    for n in range(6):
        place = {"project_id": projects[n % 2].uid, "group_id": groups[0].uid if n % 2 == 0 else None}
        trial = await protocol.new_trial(ts.Trial(name=name, parameters={"n": n}, **place))
        if n:
            await protocol.log_trial_start(trial)
        if n > 3:
            await protocol.log_trial_finish(trial, ValueError, ValueError("no"), None)
    await protocol.commit("folded")
    counts = {each.uid: each for each in await protocol.trial_counts("project_id")}
    of_group = await protocol.trial_counts("group_id", projects[0].uid)
    headings = await protocol.headings("projects", limit=2)
    found = await protocol.headings("groups", projects[0].uid, limit=10)
    seen = await protocol.fetch_values(["last_seen"], {"project_id": projects[1].uid})

    assert [counts[each.uid][1:4] for each in projects[:2]] == [(3, 1, 1), (3, 2, 1)]
    assert projects[2].uid not in counts
    assert counts[projects[1].uid].last_seen == max(int(each.timestamp() * 1_000_000 + 0.5) for [each] in seen)
    assert [each[:4] for each in of_group] == [(groups[0].uid, 3, 1, 1)]
    assert [(each.uid, each.description) for each in headings] == [
        (each.uid, "ö" * 1000) for each in (projects[2], projects[1])
    ]
    assert [(each.uid, each.name, each.project_id) for each in found] == [
        (each.uid, each.name, projects[0].uid) for each in reversed(groups)
    ]
    assert headings[0].created is not None
