"""Frames that are still open: rows of one trial that will be one event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trialstream_schemas.aggregators import Lazy
from trialstream_schemas.events import ChronosFinished, MetricsLogged
from trialstream_schemas.values import MAX_NAME_BYTES

__all__ = ["ChronosFrame", "MetricsFrame"]

# Measured: frames of 256 rows encode 4,000,000 points/s; longer ones gain little and delay more.
FRAME_ROWS = 256
# Encoded size at which a wide frame is full: far enough below MAX_EVENT_BYTES for names and one more row.
FRAME_BYTES = 128 * 1024
# About what an event and its queue entry take beside its values.
EVENT_BYTES = 1024


class MetricsFrame:
    """Rows of metrics with the same names, aggregator and type of step, due to be sealed at a monotonic time."""

    __slots__ = ("aggregator", "due", "limit", "names", "rows", "size", "step_type", "time")

    def __init__(self, names: tuple[str, ...], aggregator: Lazy, step_type: type, time_us: int, due: float) -> None:
        self.names = names
        self.aggregator = aggregator
        self.step_type = step_type
        self.time = time_us
        self.due = due
        self.rows: list[tuple[Any, int, Sequence[float]]] = []
        self.size = EVENT_BYTES + sum(map(len, names))
        row = 8 * len(names) + 16 + (MAX_NAME_BYTES if step_type is str else 0)
        self.limit = max(1, min(FRAME_ROWS, FRAME_BYTES // row))

    def event(self, writer: str, uid: str) -> MetricsLogged:
        """The rows as one event, without its number."""
        steps, times, rows = zip(*self.rows, strict=True)
        return MetricsLogged(
            trial=uid,
            writer=writer,
            time=self.time,
            aggregator=self.aggregator,
            names=self.names,
            times=[each - self.time for each in times],
            columns=list(zip(*rows, strict=True)),
            steps=steps if self.step_type is int else (),
            float_steps=steps if self.step_type is float else (),
            text_steps=steps if self.step_type is str else (),
        )


class ChronosFrame:
    """Finished chronos of all names of a trial, due to be sealed at a monotonic time."""

    __slots__ = ("due", "limit", "names", "rows", "size", "time")

    def __init__(self, time_us: int, due: float) -> None:
        self.time = time_us
        self.due = due
        # By name: aggregator, how many had been announced, how many failed.
        self.names: dict[str, list[Any]] = {}
        self.rows: list[tuple[str, int, float]] = []
        self.size = EVENT_BYTES
        self.limit = FRAME_ROWS

    def event(self, writer: str, uid: str) -> ChronosFinished:
        """The chronos as one event, without its number."""
        index = {name: i for i, name in enumerate(self.names)}
        aggregators, announced, failed = zip(*self.names.values(), strict=True)
        return ChronosFinished(
            trial=uid,
            writer=writer,
            time=self.time,
            names=list(self.names),
            aggregators=aggregators,
            announced=announced,
            failed=failed,
            chronos=[index[name] for name, _, _ in self.rows],
            times=[each - self.time for _, each, _ in self.rows],
            elapsed=[elapsed for _, _, elapsed in self.rows],
        )
