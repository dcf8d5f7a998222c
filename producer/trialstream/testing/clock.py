"""A fake clock and deterministic ids: two runs of the same calls make the same events."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from trialstream_schemas.model.times import to_micros

__all__ = ["FakeClock", "deterministic"]

_TICK_NS = 1_000_000


class FakeClock:
    """The clock of log calls: each look at it is one millisecond later. Safe to use from any thread.

    Args:
        start: The time of the first look.
    """

    def __init__(self, start: datetime) -> None:
        self._ns = 1000 * to_micros(start)
        self._looks = itertools.count()

    def time_ns(self) -> int:
        """Return the time, nanoseconds since 1970 UTC."""
        return self._ns + _TICK_NS * next(self._looks)

    def advance(self, by: timedelta | float) -> None:
        """Move the clock.

        Args:
            by: The time to add; a number is seconds.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        self._ns += round(1e9 * seconds)


@contextmanager
def deterministic(seed: int = 0, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> Iterator[FakeClock]:
    """Replace the clock and the random ids of log calls inside a block.

    Ids of writers and requests follow from the seed, and times of events from the start, as long as the calls come in
    the same order. Connect inside the block. Durations, such as those of chronos, are still measured, and events that
    are logged in the background, such as heartbeats after 10 seconds, look at the clock as well.

        with deterministic() as clock, trialstream.sync.connect("memory:") as protocol:
            trial = protocol.new_trial(ts.Trial(name="mlp"))
            clock.advance(60)
            protocol.log_trial_metrics(trial, loss=0.5)

    Args:
        seed: Seed of the ids.
        start: First time; local time if it has no zone.

    Yields:
        The clock.
    """
    from trialstream.kafka import commands, row_log, session  # noqa: PLC0415 (heavy)

    clock, ids = FakeClock(start), random.Random(seed)  # noqa: S311 (no secrets)

    def token_hex(size: int) -> str:
        return ids.randbytes(size).hex()

    places: list[tuple[object, str, Callable[..., object]]] = [
        (module, "time_ns", clock.time_ns) for module in (commands, row_log)
    ]
    places += [(module, "token_hex", token_hex) for module in (commands, session)]
    before = [getattr(module, name) for module, name, _ in places]
    try:
        for module, name, fake in places:
            setattr(module, name, fake)
        yield clock
    finally:
        for (module, name, _), real in zip(places, before, strict=True):
            setattr(module, name, real)
