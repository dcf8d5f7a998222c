"""Views of a history: its rows by writer or rank, and the rows of each step reduced to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.messages import shown
from trialstream_schemas.model.trial import Trial

from trialstream.protocol import By, MetricHistory, Reduce

__all__ = ["View"]

_REDUCTIONS: dict[str, Callable[[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]], NDArray[Any]]] = {
    "mean": lambda values, firsts, counts: np.add.reduceat(values, firsts) / counts,
    "min": lambda values, firsts, _: np.minimum.reduceat(values, firsts),
    "max": lambda values, firsts, _: np.maximum.reduceat(values, firsts),
    "sum": lambda values, firsts, _: np.add.reduceat(values, firsts),
    "count": lambda _values, _firsts, counts: counts.astype(np.float64),
}


class View(NamedTuple):
    """View of each history that `Protocol.fetch_metrics` returns.

    Attributes:
        by: `writer`, `rank`, or None for one history.
        reduce: Reduction of the rows of a step, or None.
    """

    by: By | None = None
    reduce: Reduce | None = None

    def check(self) -> None:
        """Check both fields.

        Raises:
            InvalidValue: A field has another value.
        """
        for name, given, allowed in (("by", self.by, ("writer", "rank")), ("reduce", self.reduce, tuple(_REDUCTIONS))):
            if given is not None and given not in allowed:
                raise InvalidValue(f"{name}: expected {', '.join(map(repr, allowed))} or None, got {shown(given)}")

    def of(self, history: MetricHistory, trial: Trial | None, finish: Callable[[MetricHistory], MetricHistory]) -> Any:
        """Make the view of a history.

        Args:
            history: The history.
            trial: The trial, with its participants; None if it has none.
            finish: Called with each history of the view; returns the history to put in its place.

        Returns:
            A history; or a dict of histories, by id of the writer or by rank, if `by` is not None.
        """
        if self.by is None:
            return finish(self._reduced(history))
        writers = history.writers.tolist()
        keys: dict[str, Any] = {each: each for each in dict.fromkeys(writers)}
        if self.by == "rank":
            keys = {writer: _rank(trial, writer) for writer in keys}
        order = list(dict.fromkeys(keys.values()))
        if self.by == "rank":
            order.sort(key=_none_last)
        places = {writer: order.index(key) for writer, key in keys.items()}
        of_row = np.fromiter(map(places.__getitem__, writers), np.intp, len(writers))
        ends = np.cumsum(np.bincount(of_row, minlength=len(order)))
        parts = np.split(np.argsort(of_row, kind="stable"), ends[:-1])
        return {key: finish(self._reduced(_rows(history, part))) for key, part in zip(order, parts, strict=False)}

    def _reduced(self, history: MetricHistory) -> MetricHistory:
        """Reduce the rows of each step to one, whose time, writer and number are those of the last of them."""
        if self.reduce is None or not len(history):
            return history
        steps = history.steps if history.steps.dtype.kind in "if" else _codes(history.steps)
        order = np.argsort(steps, kind="stable")
        ordered = steps[order]
        firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        lasts = np.append(firsts[1:], len(order)) - 1
        with np.errstate(invalid="ignore", over="ignore"):
            values = _REDUCTIONS[self.reduce](history.values[order], firsts, lasts - firsts + 1)
        kept = _rows(history, order[lasts])
        return MetricHistory(kept.steps, kept.times, kept.writers, values, kept.rows)


def _rank(trial: Trial | None, writer: str) -> int | None:
    if trial is None:
        return None
    found = trial.participants.get(writer) or trial.former_participants.get(writer)
    return None if found is None else found.rank


def _none_last(rank: int | None) -> tuple[bool, int]:
    return (rank is None, rank or 0)


def _rows(history: MetricHistory, index: NDArray[Any]) -> MetricHistory:
    columns: list[NDArray[Any]] = [history.steps, history.times, history.writers, history.values, history.rows]
    return MetricHistory(*(each[index] for each in columns))


def _codes(steps: NDArray[Any]) -> NDArray[np.intp]:
    """Number the distinct steps: numbers ascending, then texts and None in the order of their first rows."""
    distinct = list(dict.fromkeys(steps.tolist()))
    numbers = sorted(each for each in distinct if isinstance(each, (int, float)))
    others = [each for each in distinct if not isinstance(each, (int, float))]
    codes = {each: i for i, each in enumerate([*numbers, *others])}
    return np.array([codes[each] for each in steps.tolist()], dtype=np.intp)
