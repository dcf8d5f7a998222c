"""A user's script that calls all of the tracker; type checkers in strict mode find no error in it, and no `Any`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import assert_type

import numpy as np
import trialstream as ts
from numpy.typing import NDArray
from trialstream.kafka.protocol import LoggingProtocol
from trialstream.sync import SyncProtocol
from trialstream.sync import stream as sync_stream


@ts.instrument
def half(x: float) -> float:
    """Return half of a number."""
    return x / 2


@ts.instrument(name="slow")
async def slow(x: int) -> str:
    """Return the text of a number."""
    await asyncio.sleep(0)
    return str(x)


async def batches() -> AsyncIterator[list[int]]:
    """Yield one batch."""
    yield [1, 2]


def plain() -> None:
    """Use the tracker in plain code."""
    with ts.track("mnist", project="digits", group="lr", parameters={"lr": 1e-3}, tags=["base"], run_id="r") as t:
        assert_type(t, ts.SyncTracker)
        for batch in t.timed([[1], [2]], "batch", rows_of=len):
            assert_type(batch, list[int])
            with t.chrono("step") as chrono:
                t.log({"train": {"loss": half(1.0)}}, step=t.step)
            assert_type(chrono.elapsed, float)
        t.define("val/*", step="epoch", best="max")
        t.log({"val/acc": 0.5, "epoch": 1}, on="rank0")
        t.log_arguments({"depth": 2}, width=3)
        t.log_metadata({"path": Path()}, aggregator=ts.RingAggregator.lazy(3))
        t.tag("good", dataset="mnist")
        t.status("evaluating")
        t.note("a note")
        t.checkpoint(Path("x.pt"), step=3)
        t.summary["accuracy"] = 0.5
        assert_type(t.commit("folded", timeout=3.0), bool)
        assert_type(t.health, ts.Health)
        assert_type(t.health.errors, int)
        assert_type(t.url, str | None)
        assert_type(t.handle(), ts.Handle)
        assert_type(t.protocol, SyncProtocol)
        assert_type(t.trial, ts.Trial)
        assert_type(t.rank, int | None)
        assert_type(t.resume_step, int | float | None)
    with ts.track.attach(t.handle()) as attached:
        assert_type(attached, ts.SyncTracker)
    started = ts.track("mnist", resume="auto", capture=["stdout"], kafka="127.0.0.1:9092").start()
    assert_type(started, ts.SyncTracker)
    started.finish()
    started.finish(ValueError("wrong"))


async def asynchronous() -> None:
    """Use the tracker in async code."""
    async with ts.track("mnist", resume=Path("x.pt"), capture=False) as t:
        assert_type(t, ts.AsyncTracker)
        async for batch in t.timed(batches(), "batch"):
            assert_type(batch, list[int])
            async with t.chrono("step"):
                assert_type(await slow(3), str)
        assert_type(await t.commit(), bool)
        assert_type(t.protocol, LoggingProtocol)
        await t.finish()


async def streams() -> None:
    """Use streams of the log."""
    async with ts.stream(project="p", since=ts.NOW, kinds=[ts.Rows, ts.events.StatusSet, "TrialCreated"]) as stream:
        async for item in stream:
            assert_type(item, ts.LogEvent)
            assert_type(item.trial, str | None)
            assert_type(item.offset, int)
            match item.event:
                case ts.Rows() as rows:
                    assert_type(rows.names, Sequence[str])
                    assert_type(rows.values, dict[str, NDArray[np.float64]])
                case ts.Row(step=step, values=values):
                    assert_type(step, int | float | str | None)
                    assert_type(values, dict[str, float])
                case ts.events.StatusSet(status=status):
                    assert_type(status.code, int)
                case _:
                    pass
            assert_type(stream.position, ts.Position)
            assert_type(ts.Position.parse(str(stream.position)), ts.Position)
    assert_type(await ts.replay(ts.stream(follow=False), print, speed=None), int)
    for found in sync_stream(trial="a" * 32, rows="one", url="memory:x"):
        assert_type(found, ts.LogEvent)


def of_the_context() -> None:
    """Use the trial of the context."""
    assert_type(ts.current(), ts.Tracker | None)
    ts.log({"loss": 0.5}, step=3)
    ts.log_arguments(depth=3)
    ts.log_metadata(a=1)
    ts.tag("good")
    ts.note("a note")
    with ts.chrono("block"):
        half(1.0)


@ts.track("x").start().chrono("decorated")
def decorated(x: int) -> str:
    """Keep its signature."""
    return str(x)


assert_type(decorated(3), str)
