"""Frames: rows of one trial that become one event."""

from __future__ import annotations

import math
import typing
from array import array
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import compress
from operator import attrgetter
from struct import Struct
from struct import error as StructError  # noqa: N812 (a class)
from typing import Any, TypeAlias

import numpy as np
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.values import MAX_NAME_BYTES
from trialstream_schemas.wire.events import ChronosFinished, MetricsLogged

__all__ = ["ChronosFrame", "FinishedChrono", "Frame", "MetricsFrame"]

# Maximum number of rows. A frame is so long only if rows come fast; otherwise it is due before. The consumer does most
# of its work once a frame, whatever its length.
FRAME_ROWS = 4096
# Encoded size at which a frame is full, bytes: far enough below MAX_EVENT_BYTES for names and one more row.
FRAME_BYTES = 192 * 1024
# Maximum number of finished chronos in a frame: those of 200 ms of steps of a millisecond, with three chronos each. An
# event has room for as many names of the largest size (MAX_EVENT_BYTES).
CHRONO_ROWS = 640
# Memory of a packed row without its fields, bytes: the bytes object and its place in the list.
_ROW_BYTES = 41
# Memory of a finished chrono, bytes.
CHRONO_BYTES = 200
# Estimated memory of an event and its queue entry without the values, bytes.
EVENT_BYTES = 1024
_NAME, _ANNOUNCED = attrgetter("name"), attrgetter("announced")


class Frame:
    """Rows of one trial that become one event. Open while it has rows; after its event was made, it begins anew.

    Args:
        uid: Uid of the trial.
        names: Names of its metrics; empty if it takes chronos.
        limit: Maximum number of rows.
        row_bytes: Memory of a row, bytes.

    Attributes:
        uid: Uid of the trial.
        names: Names of its metrics.
        limit: As given.
        row_bytes: As given.
        due: When to make the event, on the monotonic clock.
        size: Estimated memory of the rows, bytes.
        rows: The rows.
    """

    __slots__ = ("due", "limit", "names", "row_bytes", "rows", "size", "uid")

    def __init__(self, uid: str, names: tuple[str, ...], limit: int, row_bytes: int) -> None:
        self.uid = uid
        self.names = names
        self.limit = limit
        self.row_bytes = row_bytes
        self.due = 0.0
        self.size = 0
        self.rows: list[Any] = []


class MetricsFrame(Frame):
    """Rows of one trial with the same names, aggregator and kind of step.

    `struct` packs a row: its step, its time and its values, 8 bytes each. The columns of the event are strided slices
    of the joined rows. Both operations run in C.

    Args:
        uid: Uid of the trial.
        names: Names of the metrics.
        aggregator: How the values are aggregated.
        kind: Type of all steps: int, float, str or NoneType.

    Attributes:
        aggregator: How the values are aggregated.
        kind: Type of all steps: int, float, str or NoneType.
        pack: Packs a row: step (0 if it is a text or None), nanoseconds since 1970 UTC, values. Raises `struct.error`
            for a step that does not fit.
    """

    __slots__ = ("aggregator", "kind", "pack", "texts")

    def __init__(self, uid: str, names: tuple[str, ...], aggregator: AggregatorSpec, kind: type) -> None:
        row = _row_format("d" if kind is float else "q", len(names))
        encoded = row.size + (MAX_NAME_BYTES if kind is str else 0)
        super().__init__(uid, names, max(1, min(FRAME_ROWS, FRAME_BYTES // encoded)), row.size + _ROW_BYTES)
        self.aggregator = aggregator
        self.kind = kind
        self.pack = _finite(row.pack) if kind is float else row.pack
        self.texts: list[str] = []

    def event(self, writer: str) -> MetricsLogged:
        """Return the rows as one event, without a `seq`; the frame is empty then."""
        packed, texts = b"".join(self.rows), self.texts
        self.rows, self.texts, self.size = [], [], 0
        values, integers = array("d", packed), array("q", packed)
        fields = 2 + len(self.names)
        times = np.frombuffer(integers, np.int64)[1::fields] // 1000
        first = int(times[0])
        return MetricsLogged(
            trial=self.uid,
            writer=writer,
            time=first,
            aggregator=self.aggregator,
            names=self.names,
            times=array("q", (times - first).tobytes()),
            columns=[values[i::fields] for i in range(2, fields)],
            steps=integers[::fields] if self.kind is int else (),
            float_steps=values[::fields] if self.kind is float else (),
            text_steps=texts,
        )


@lru_cache(maxsize=1024)
def _row_format(step_code: str, count: int) -> Struct:
    """Return the format of a row: a step with the format character `step_code`, a time, and `count` values."""
    return Struct(f"={step_code}q{count}d")


def _finite(pack: Callable[..., bytes]) -> Callable[..., bytes]:
    """Refuse a step that is NaN or infinite, as `struct` refuses an integer that does not fit."""

    def pack_finite(step: float, *rest: float) -> bytes:
        if not math.isfinite(step):
            raise StructError(f"the step {step} is not finite")
        return pack(step, *rest)

    return pack_finite


class Chrono(typing.Protocol):
    """A chrono that was started.

    Attributes:
        trial: Uid of the trial.
        name: Name of the chrono.
        aggregator: How its durations are aggregated.
        announced: Whether its start was logged.
    """

    trial: str
    name: str
    aggregator: AggregatorSpec
    announced: bool


FinishedChrono: TypeAlias = tuple[Chrono, int, float, bool]
"""A chrono that has finished: the chrono, when it finished (nanoseconds since 1970 UTC), its duration (seconds), and
whether it ended with an exception. A plain tuple, since the log call makes it."""


class ChronosFrame(Frame):
    """Finished chronos of one trial, of all names; a row is a `FinishedChrono`.

    The columns of the event are made by C code, without a step of the interpreter for each chrono.

    Args:
        uid: Uid of the trial.
    """

    __slots__ = ()

    def __init__(self, uid: str) -> None:
        super().__init__(uid, (), CHRONO_ROWS, CHRONO_BYTES)

    def event(self, writer: str) -> ChronosFinished:
        """Return the chronos as one event, without a `seq`; the frame is empty then."""
        rows: list[FinishedChrono] = self.rows
        self.rows, self.size = [], 0
        chronos, nanoseconds, elapsed, failures = zip(*rows, strict=True)
        name_of = list(map(_NAME, chronos))
        names = dict.fromkeys(name_of)
        index = dict(zip(names, range(len(names)), strict=True))
        first_of = dict(zip(reversed(name_of), reversed(chronos), strict=True))  # the first one of a name comes last
        announced = Counter(compress(name_of, map(_ANNOUNCED, chronos)))
        failed = Counter(compress(name_of, failures))
        times = np.array(nanoseconds, np.int64) // 1000
        start = int(times[0])
        return ChronosFinished(
            trial=self.uid,
            writer=writer,
            time=start,
            names=list(names),
            aggregators=[first_of[name].aggregator for name in names],
            announced=[announced[name] for name in names],
            failed=[failed[name] for name in names],
            chronos=array("q", map(index.__getitem__, name_of)),
            times=array("q", (times - start).tobytes()),
            elapsed=array("d", elapsed),
        )
