"""A batch in the order in which it is folded: rows that were logged one by one are folded together.

Training code that logs seldom makes a frame for each row, and folding one row costs nearly as much as folding a frame.
So frames of one row that follow one another in a trial, alike and of one writer, make a *run*, which `fold_rows` folds
at once. That there are other trials' events between them does not matter, since these neither see nor change the trial.
Two events keep their order unless they

- name two trials by their uids, not by `<hash>~<request>`, which may be the same trial's, and
- have no request, whose outcome is seen by all events of that request.

The documents are the same to the byte as those of the events folded one by one (property-tested: the fold is cut-free).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeGuard

from trialstream_schemas.wire.events import Event, MetricsLogged, TrialEvent

from trialstream_consumer.fold.fold import Refused, State, fold, fold_rows

__all__ = ["Faulty", "Run", "fold_runs", "runs_of", "singles_of"]

Run: TypeAlias = list[int]
"""Positions of the events in their batch."""


class Faulty(Exception):
    """The fold has a fault, which the events of a run bring out; half of them may be in the state."""

    def __init__(self, run: Run, error: Exception) -> None:
        super().__init__(f"the fold failed: {error!r}")
        self.run = run


def singles_of(events: Sequence[Event | None]) -> list[Run]:
    """A run for each event; None stands for what is not folded."""
    return [[position] for position, event in enumerate(events) if event is not None]


def runs_of(events: Sequence[Event | None]) -> list[Run]:
    """The runs of a batch, in an order in which they can be folded; None stands for what is not folded.

    All events of a run need the same to be loaded.
    """
    runs: list[Run] = []
    by_trial: dict[str, Run] = {}
    for position, event in enumerate(events):
        if event is None:
            continue
        if isinstance(event, TrialEvent) and event.request is None and "~" not in event.trial:
            by_trial.setdefault(event.trial, []).append(position)
        else:
            runs += _cut_all(events, by_trial)
            by_trial.clear()
            runs.append([position])
    return [*runs, *_cut_all(events, by_trial)]


def _cut_all(events: Sequence[Event | None], by_trial: Mapping[str, Run]) -> Iterator[Run]:
    for positions in by_trial.values():
        yield from _cut(events, positions)


def _cut(events: Sequence[Event | None], positions: Iterable[int]) -> Iterator[Run]:
    """The events of one trial, in runs."""
    run: Run = []
    first: MetricsLogged | None = None
    for position in positions:
        event = events[position]
        row = event if _is_row(event) else None
        if first is not None and row is not None and _are_alike(first, row):
            run.append(position)
        else:
            if run:
                yield run
            run, first = [position], row
    if run:
        yield run


def _is_row(event: Event | None) -> TypeGuard[MetricsLogged]:
    return (
        type(event) is MetricsLogged
        and len(event.times) == 1
        and event.if_version is None
        and not event.float_steps
        and not event.text_steps
    )


def _are_alike(one: MetricsLogged, other: MetricsLogged) -> bool:
    return (
        one.writer == other.writer
        and len(one.steps) == len(other.steps)
        and one.names == other.names
        and (one.aggregator is other.aggregator or one.aggregator == other.aggregator)
    )


def fold_runs(state: State, events: Sequence[Event | None], runs: Iterable[Run]) -> list[tuple[int, str]]:
    """Advance the state by the runs of a batch; return which events were refused, in their order, and why.

    Raises:
        Faulty: the fold has a fault.
    """
    refused: list[tuple[int, str]] = []
    for run in runs:
        done = 0
        try:
            while done < len(run):
                # The first may be the first of its names too, which `fold_rows` leaves to `fold`.
                if done < 2 <= len(run) - done and fold_rows(state, [events[i] for i in run[done:]]):  # type: ignore[misc]
                    break
                event = events[run[done]]
                assert event is not None
                try:
                    fold(state, event)
                except Refused as reason:
                    refused.append((run[done], str(reason)))
                done += 1
        except Exception as error:
            raise Faulty(run, error) from error
    return sorted(refused)
