"""Summaries in queries, as docs/querying.md has them, and the way to values inside histories."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

import pytest
import trialstream as ts

PAGE = Path(__file__).parents[2] / "docs" / "querying.md"


@pytest.fixture
async def group(protocol, name):
    """A group of three trials with metrics, chronos and accumulated metadata, from the least to the largest values."""
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    for n in range(3):
        trial = await protocol.new_trial(ts.Trial(name=name, group_id=group.uid, parameters={"n": n}))
        await protocol.log_trial_start(trial)
        for step in range(600):
            await protocol.log_trial_metrics(trial, step=step, loss=28 * (n + 1) / (step + 1), samples=n)
        for memory in (n * 1e10, n * 2.5e10):
            await protocol.log_trial_metadata(trial, ts.StatAggregator.lazy(), gpu_memory=memory)
        for _ in range(n):
            await protocol.log_trial_chrono_start(trial, "epoch", ts.StatAggregator.lazy())
            await protocol.log_trial_chrono_finish(trial, "epoch", exc_type=ValueError)
        await protocol.log_trial_finish(trial)
    return group


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"metrics.loss.min": {"$lt": 0.1}}, [0, 1]),
        ({"metrics.loss.avg": {"$gt": 0.5}}, [1, 2]),
        ({"metrics.loss.mean": {"$gt": 0.5}}, []),  # the field is `avg`
        ({"metrics.loss.last_step": {"$gte": 599}}, [0, 1, 2]),
        ({"metrics.loss.last_step": {"$gte": 600}}, []),
        ({"metrics.samples.last": 2}, [2]),
        ({"chronos.runtime.sum": {"$gt": 0}}, [0, 1, 2]),
        ({"chronos.runtime.sum": {"$gt": 3600}}, []),
        ({"chronos.epoch.max": {"$gt": 0}}, [1, 2]),
        ({"metadata.gpu_memory.max": {"$gt": 40e9}}, [2]),
        ({"failed_chronos.epoch": {"$exists": True}}, [1, 2]),
        ({"rows": 0}, []),
        ({"starts": 1}, [0, 1, 2]),
    ],
    ids=str,
)
async def test_queries_over_summaries(protocol, group, query, wanted):
    """Summaries of metrics, chronos and accumulated metadata are queried by their path."""
    found = await protocol.fetch_trials({"group_id": group.uid, **query}, sort="parameters.n")

    assert [each.parameters["n"] for each in found] == wanted


async def test_values_inside_histories(protocol, group):
    """The example of the page finds trials by a value at a step: a summary first, then the histories that remain."""
    [example] = re.findall(r"```python\n(trials = [^`]*early = [^`]*)```", PAGE.read_text("utf-8"))
    scope = {"protocol": protocol, "group": group}
    exec(f"async def run():\n{indent(example, '    ')}\n    return trials, early", scope)
    trials, early = await scope["run"]()
    [first] = await protocol.fetch_trials({"group_id": group.uid, "parameters.n": 0})

    assert len(trials) == 2  # the third never comes below the bound, and the second does after the step
    assert [each.uid for each in early] == [first.uid]
