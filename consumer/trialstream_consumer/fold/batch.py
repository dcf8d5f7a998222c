"""Batches: the order in which events are folded, with rows that were logged one by one folded together.

When training code logs rarely, each frame has one row only, and folding it costs nearly as much as folding a large
frame. So frames of one row that follow one another in a trial, of one writer and with the same names, aggregator and
type of step, form a *row group*, which `fold_rows` folds at once. Events of other trials may lie between these frames,
because such events neither read nor change the trial. The order of two events may be changed only if both

- name trials by different uids (two addresses `<hash>~<request>`, or an address and a uid, may name the same trial);
- have no request, because all events of a request read its outcome.

The documents are the same to the byte as if the events were folded one by one (property-tested: the fold is cut-free).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeGuard

from trialstream_schemas.messages import shortened
from trialstream_schemas.wire.events import Event, MetricsLogged, TrialEvent
from trialstream_schemas.wire.rows import RowRun

from trialstream_consumer.fold.dispatch import fold
from trialstream_consumer.fold.measures import measures_of
from trialstream_consumer.fold.metrics import fold_rows
from trialstream_consumer.fold.state import Refused, State

__all__ = [
    "Decoded",
    "FoldFault",
    "RowGroup",
    "first_events",
    "fold_groups",
    "fold_in_steps",
    "row_groups",
    "single_groups",
]

Decoded: TypeAlias = Event | RowRun | None
"""A record of a batch: its event, or the run of rows that its event belongs to; None if it is not folded."""

RowGroup: TypeAlias = list[int]
"""Positions in a batch: those of frames of one row that are folded together, or that of one event of any type."""


class FoldFault(Exception):
    """The fold failed on an event of a group. The state is unusable, since a part of the group may have been folded.

    Attributes:
        group: The group.
    """

    def __init__(self, group: RowGroup, error: Exception) -> None:
        super().__init__(shortened(f"the fold failed: {error!r}"))
        self.group = group


def single_groups(events: Sequence[Decoded]) -> list[RowGroup]:
    """Return a group for each event."""
    return [[position] for position, event in enumerate(events) if event is not None]


def row_groups(events: Sequence[Decoded]) -> list[RowGroup]:
    """Return the groups of a batch, in an order in which they can be folded.

    All events of a group have the same `needs`.

    Args:
        events: The events of the batch.
    """
    groups: list[RowGroup] = []
    by_trial: dict[str, list[int]] = {}
    for position, event in enumerate(events):
        if event is None:
            continue
        if type(event) is RowRun or (
            isinstance(event, TrialEvent) and event.request is None and "~" not in event.trial
        ):
            held = by_trial.get(event.trial)
            if held is None:
                by_trial[event.trial] = [position]
            else:
                held.append(position)
        else:
            groups += _cut_all(events, by_trial)
            by_trial.clear()
            groups.append([position])
    return [*groups, *_cut_all(events, by_trial)]


def _cut_all(events: Sequence[Decoded], by_trial: Mapping[str, list[int]]) -> Iterator[RowGroup]:
    for positions in by_trial.values():
        yield from _cut(events, positions)


def _cut(events: Sequence[Decoded], positions: Sequence[int]) -> Iterator[RowGroup]:
    """Cut the events of one trial into groups."""
    at = 0
    while at < len(positions):
        event = events[positions[at]]
        count = 1
        if type(event) is RowRun:
            start = bisect_left(event.positions, positions[at])
            count = _common(event.positions[start:], positions[at:])
        elif _is_row(event):
            while at + count < len(positions) and _are_alike(event, events[positions[at + count]]):
                count += 1
        yield list(positions[at : at + count])
        at += count


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of items at the beginning that two sequences have in common."""
    if one == other[: len(one)]:
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))


def _is_row(event: Decoded) -> TypeGuard[MetricsLogged]:
    return (
        type(event) is MetricsLogged
        and len(event.times) == 1
        and event.times[0] == 0
        and event.if_version is None
        and not event.float_steps
        and not event.text_steps
    )


def _are_alike(one: MetricsLogged, other: Decoded) -> bool:
    return (
        _is_row(other)
        and one.writer == other.writer
        and len(one.steps) == len(other.steps)
        and one.names == other.names
        and (one.aggregator is other.aggregator or one.aggregator == other.aggregator)
    )


def first_events(events: Sequence[Decoded], groups: Iterable[RowGroup]) -> Iterator[Event]:
    """Return the first event of each group."""
    for group in groups:
        yield _event_at(events, group[0])


def _event_at(events: Sequence[Decoded], position: int) -> Event:
    event = events[position]
    assert event is not None
    return event.frame_at(position) if isinstance(event, RowRun) else event


def _rows_at(events: Sequence[Decoded], group: RowGroup) -> RowRun | None:
    """The frames of a group as one run, if they are one; None for a frame that was decoded by itself."""
    first = events[group[0]]
    if type(first) is RowRun:
        start = bisect_left(first.positions, group[0])
        return first.part(start, start + len(group))
    if len(group) < 2:
        return None
    return RowRun.of([events[position] for position in group])  # type: ignore[misc]


def fold_groups(state: State, events: Sequence[Decoded], groups: Iterable[RowGroup]) -> list[tuple[int, str]]:
    """Advance the state by the groups of a batch.

    Args:
        state: The state; it holds the `needs` of the events.
        events: The events of the batch.
        groups: `row_groups` or `single_groups` of the events.

    Returns:
        Position and reason of each refused event, in the order of the batch.

    Raises:
        FoldFault: The fold failed on an event that it neither folded nor refused, because of a bug.
    """
    refused: list[tuple[int, str]] = []
    for _ in fold_in_steps(state, events, groups, refused):
        pass
    return sorted(refused)


def fold_in_steps(
    state: State, events: Sequence[Decoded], groups: Iterable[RowGroup], refused: list[tuple[int, str]]
) -> Iterator[None]:
    """Advance the state by the groups of a batch as `fold_groups` does, and yield after each group.

    Args:
        state: The state; it holds the `needs` of the events.
        events: The events of the batch.
        groups: `row_groups` or `single_groups` of the events.
        refused: The position and reason of each refused event are added, in the order of the groups.

    Raises:
        FoldFault: The fold failed on an event that it neither folded nor refused, because of a bug.
    """
    try:
        state.measures = measures_of(events)
    except Exception:  # noqa: BLE001 (the fold of the failing frame raises the error, as the fault of that frame alone)
        state.measures = {}
    for group in groups:
        done = 0
        try:
            while done < len(group):
                # `fold_rows` refuses rows of new names. Try it again once `fold` has folded the first of them.
                rows = _rows_at(events, group[done:]) if done < 2 else None
                if rows is not None and fold_rows(state, rows):
                    break
                try:
                    fold(state, _event_at(events, group[done]))
                except Refused as reason:
                    refused.append((group[done], str(reason)))
                done += 1
        except Exception as error:
            raise FoldFault(group, error) from error
        yield
    state.measures = {}
