"""The time series that also keeps its best observation, which a rewind of the trial can take back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.aggregators.base import AggregatorSpec
from trialstream_schemas.model.aggregators.timeseries import BEST_ARGUMENTS, BEST_KIND, TimeSeriesAggregator

__all__ = ["MAX_RECORDS", "BestAggregator"]

MAX_RECORDS = 64
"""Maximum number of records that are kept. They take at most 3 KB of the trial's document."""
# Bytes of a record in a document: the key of its place, an array, two numbers of 8 bytes and one of 4.
_RECORD_BYTES = 48
# A text step takes at most 1,024 bytes; `best_step` and one record can have one.
_TEXT_BYTES = 2 * 1032
_GOALS: dict[int, Literal["max", "min"]] = {argument: goal for goal, argument in BEST_ARGUMENTS.items()}


class _Record(NamedTuple):
    """An observation that is or can become the best one.

    Attributes:
        value: The observation.
        step: Its step.
        attempt: Number of the attempt of its writer when it was logged.
    """

    value: float
    step: float | str | None
    attempt: int

    @property
    def number(self) -> float | None:
        """The step, if a later attempt can supersede the observation: if the step is a number, but not NaN."""
        return self.step if isinstance(self.step, (int, float)) and self.step == self.step else None

    def outlasts(self, other: _Record) -> bool:
        """Whether every rewind that supersedes this observation supersedes the other one, too."""
        mine, others = self.number, other.number
        return mine is None or (others is not None and self.attempt >= other.attempt and mine <= others)

    def is_superseded(self, step: float | None) -> bool:
        """Whether a later attempt that resumes from a step supersedes the observation; False for None."""
        number = self.number
        return step is not None and number is not None and number > step


_NONE = _Record(math.nan, None, 0)


class BestAggregator(TimeSeriesAggregator):
    """Keeps what a `TimeSeriesAggregator` keeps, and the best observation with its step.

    NaN is never the best, and of equal observations the first in the log is. An observation that is superseded by a
    later attempt of the trial is not the best either. For that, the aggregator keeps the observations that would be the
    best after some rewind: usually those that were the best so far when they were logged. Of these *records* it keeps
    at most `MAX_RECORDS` (64): beyond that, every other one of the older half is dropped. So a rewind by many records
    may find a best observation that is one that survives, but not quite the best of these.

    Args:
        best: Whether the largest or the smallest observation is the best.

    Raises:
        InvalidValue: `best` is neither `max` nor `min`.

    Attributes:
        goal: `max` or `min`.
        best: The best observation; None before the first.
        best_step: Its step.
    """

    kind = BEST_KIND

    def __init__(self, best: Literal["max", "min"] = "max") -> None:
        super().__init__()
        if best not in BEST_ARGUMENTS:
            raise InvalidValue(f"best: expected 'max' or 'min', got {best!r}")
        self._set_goal(best)
        self.best: float | None = None
        self.best_step: float | str | None = None
        self._records: list[_Record] = []
        # The best of the records, and the largest number among their steps.
        self._top = _NONE
        self._last_number = -math.inf

    @classmethod
    def lazy(cls, best: Literal["max", "min"] | None = "max") -> AggregatorSpec:  # type: ignore[override]  # no skip_obs
        """Specify such an aggregator: see `TimeSeriesAggregator.lazy`."""
        return super().lazy(best)

    @classmethod
    def make(cls, argument: int) -> Self:
        """Make an aggregator; the argument is 1 for `max` and 2 for `min`."""
        if argument not in _GOALS:
            raise InvalidValue(f"BestAggregator: expected the argument 1 (max) or 2 (min), got {argument}")
        return cls(_GOALS[argument])

    @property
    def argument(self) -> int:
        """1 for `max`, 2 for `min`."""
        return BEST_ARGUMENTS[self.goal]

    @property
    def reserved(self) -> int:
        """Upper bound of the aggregator's size in a document, bytes."""
        return super().reserved + _RECORD_BYTES * MAX_RECORDS + _TEXT_BYTES

    def extend(self, xs: Sequence[float], step: float | str | None = None) -> None:
        """Add observations; `step` is the step of the last observation, and the others have none."""
        self.extend_rows(xs, [*[None] * (len(xs) - 1), step])

    def extend_rows(
        self,
        xs: Sequence[float],
        steps: Sequence[float | str | None],
        attempt: int = 0,
        superseding_step: float | None = None,
    ) -> None:
        """Add observations with their steps.

        Args:
            xs: The observations.
            steps: The step of each observation; empty if they have none.
            attempt: Number of the attempt of their writer.
            superseding_step: Observations with a larger step are superseded already; None for none.
        """
        super().extend(xs, steps[-1] if steps and len(xs) else None)
        sign = self._sign
        for i, x in enumerate(xs):
            step = steps[i] if steps else None
            top = self.best
            if top is not None and sign * x <= sign * top and self._top.outlasts(_Record(x, step, attempt)):
                continue  # most observations
            self._add_record(_Record(float(x), step, attempt), superseding_step)

    def _set_goal(self, goal: Literal["max", "min"]) -> None:
        self.goal: Literal["max", "min"] = goal
        self._sign = 1.0 if goal == "max" else -1.0

    def _add_record(self, new: _Record, superseding_step: float | None) -> None:
        if math.isnan(new.value) or new.is_superseded(superseding_step):
            return
        value = self._sign * new.value
        is_best = self.best is None or value > self._sign * self.best
        if not is_best and any(self._sign * each.value >= value and each.outlasts(new) for each in self._records):
            return
        number = -math.inf if new.number is None else new.number
        if number <= self._last_number:  # a number beyond those of all records outlasts none of them
            self._records = [
                each for each in self._records if self._sign * each.value >= value or not new.outlasts(each)
            ]
        self._records.append(new)
        self._last_number = max(self._last_number, number)
        if len(self._records) > MAX_RECORDS:
            self._drop_some()
        if is_best:
            self._top, self.best, self.best_step = new, new.value, new.step

    def _drop_some(self) -> None:
        """Drop every other record of the older half, but not the best one."""
        top = self._best_record()
        old, new = self._records[: MAX_RECORDS // 2], self._records[MAX_RECORDS // 2 :]
        self._records = [each for i, each in enumerate(old) if i % 2 == 0 or each is top] + new

    def _best_record(self) -> _Record | None:
        return max(self._records, key=lambda each: self._sign * each.value, default=None)  # the first of equal ones

    def _set_best(self) -> None:
        top = self._best_record()
        self._top = _NONE if top is None else top
        self.best = None if top is None else top.value
        self.best_step = None if top is None else top.step
        numbers = [each.number for each in self._records if each.number is not None]
        self._last_number = max(numbers, default=-math.inf)

    def rewind(self, attempt: int, step: float) -> None:
        """Drop the observations that an attempt supersedes.

        Args:
            attempt: Number of the attempt.
            step: The step from which it resumes: observations of earlier attempts with a larger step are superseded.
        """
        self._records = [each for each in self._records if each.attempt >= attempt or not each.is_superseded(step)]
        self._set_best()

    def merge(self, later: Self) -> None:
        """Add the observations of another aggregator, which come after those of this aggregator."""
        super().merge(later)
        for each in later._records:
            self._add_record(each, None)

    def summary(self) -> dict[str, Any]:
        """The statistics by name, the last and the best observation and their steps."""
        return super().summary() | {"best": self.best, "best_step": self.best_step}

    def _state(self) -> dict[str, Any]:
        records = [list(each) for each in self._records]
        return super()._state() | {"best": self.best, "best_step": self.best_step, "records": records}

    def _restore(self, argument: int, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        super()._restore(argument, state, plain)
        self._set_goal(_GOALS[argument])
        self._records = [_Record(*[plain(x) for x in each]) for each in state["records"]]
        self._set_best()
