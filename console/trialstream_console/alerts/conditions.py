"""Conditions of trials: pure functions of a trial, and of times.

A *silent* condition is about what does not come any more. It concerns running trials, and is checked again and again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from trialstream.reading.paths import path
from trialstream_schemas.messages import counted
from trialstream_schemas.model.aggregators import Aggregator
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Trial

__all__ = [
    "VALUES",
    "Condition",
    "Failed",
    "Lost",
    "MetricBeyond",
    "NoRows",
    "NotFinite",
    "RankLost",
    "SilentCondition",
]

VALUES = ("last", "min", "max", "avg", "sum", "sd", "count", "best")
"""Values of a metric that a rule can compare."""

_SPECIALS = {"nan": "nan", "inf": "inf", "neginf": "-inf"}


@dataclass(frozen=True)
class Condition(ABC):
    """A condition of a trial, by what the trial is."""

    fields: ClassVar[tuple[str, ...]] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Fields of the trial that are needed."""
        return self.fields

    @abstractmethod
    def message(self, trial: Trial) -> str | None:
        """Return what is the matter; None if nothing is."""


@dataclass(frozen=True)
class Failed(Condition):
    """The status is one of a failure."""

    fields = ("status", "errors")

    def message(self, trial: Trial) -> str | None:
        """See `Condition`."""
        if not _in_phase(trial.status, 200):
            return None
        last = trial.errors[-1] if trial.errors else None
        error = f": {last.type}: {last.message}" if last and last.type else f": {last.message}" if last else ""
        return f"failed with status {trial.status}{error}"


@dataclass(frozen=True)
class NotFinite(Condition):
    """A metric had a value that is NaN or infinite.

    Attributes:
        metric: Name of the metric; empty for any.
    """

    metric: str

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Condition`."""
        return (path("metrics", self.metric) if self.metric else "metrics",)

    def message(self, trial: Trial) -> str | None:
        """See `Condition`."""
        for name, aggregator in trial.metrics.items():
            if self.metric in ("", name) and (found := _special(aggregator)):
                return f"metric {name} was {found}"
        return None


@dataclass(frozen=True)
class MetricBeyond(Condition):
    """A value of a metric is above or below a limit.

    Attributes:
        metric: Name of the metric.
        value: One of `VALUES`.
        over: The limit above which it holds; None for none.
        under: The limit below which it holds; None for none.
    """

    metric: str
    value: str
    over: float | None
    under: float | None

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Condition`."""
        return (path("metrics", self.metric),)

    def message(self, trial: Trial) -> str | None:
        """See `Condition`."""
        if (aggregator := trial.metrics.get(self.metric)) is None:
            return None
        found = _summary(aggregator).get(self.value)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            return None
        what = f"{self.value} of metric {self.metric} is {found:.6g}"
        if self.over is not None and found > self.over:
            return f"{what}, over {self.over:.6g}"
        if self.under is not None and found < self.under:
            return f"{what}, under {self.under:.6g}"
        return None


@dataclass(frozen=True)
class SilentCondition(ABC):
    """A condition of a running trial, by what it has not logged.

    Attributes:
        seconds: How long nothing has come.
    """

    fields: ClassVar[tuple[str, ...]]
    seconds: float

    @abstractmethod
    def message(self, trial: Trial, last_row: datetime | None, shown: datetime) -> str | None:
        """Return what is the matter; None if nothing is.

        Args:
            trial: A running trial.
            last_row: When its last row was logged, or when it was started; None if that is unknown.
            shown: The time up to which all events are in the trial.
        """


@dataclass(frozen=True)
class NoRows(SilentCondition):
    """No row was logged for some time."""

    fields = ("rows", "started")

    def message(self, trial: Trial, last_row: datetime | None, shown: datetime) -> str | None:
        """See `SilentCondition`."""
        silent = 0.0 if last_row is None else (shown - last_row).total_seconds()
        return f"no row for {_duration(silent)}, {counted(trial.rows, 'row')} in all" if silent > self.seconds else None


@dataclass(frozen=True)
class Lost(SilentCondition):
    """Nothing was heard from any process of the trial, not even a heartbeat."""

    fields = ("last_seen",)

    def message(self, trial: Trial, last_row: datetime | None, shown: datetime) -> str | None:  # noqa: ARG002
        """See `SilentCondition`."""
        silent = _silence(trial.last_seen, shown)
        return f"lost: nothing heard for {_duration(silent)}" if silent > self.seconds else None


@dataclass(frozen=True)
class RankLost(SilentCondition):
    """Nothing was heard from a rank of the latest attempt, while the trial runs."""

    fields = ("attempts", "participants")

    def message(self, trial: Trial, last_row: datetime | None, shown: datetime) -> str | None:  # noqa: ARG002
        """See `SilentCondition`."""
        silent = {
            rank: _silence(each.last_seen, shown)
            for rank, each in trial.ranks.items()
            if _in_phase(each.status, 100) and _silence(each.last_seen, shown) > self.seconds
        }
        if not silent:
            return None
        ranks = ", ".join(map(str, sorted(silent)[:20]))
        lost = f"{len(silent)} of {counted(len(trial.ranks), 'rank')} lost"
        return f"{lost}: {ranks}; silent for {_duration(max(silent.values()))}"


def _in_phase(status: Status | CustomStatus | None, phase: int) -> bool:
    return status is not None and phase <= status.value < phase + 100


def _silence(last_seen: datetime | None, shown: datetime) -> float:
    return 0.0 if last_seen is None else (shown - last_seen).total_seconds()


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _summary(aggregator: Aggregator) -> dict[str, Any]:
    """Return the values of a metric by name: of an aggregator without statistics, its last value."""
    found = aggregator.summary()
    if isinstance(found, dict) and "count" in found:
        return found
    return {"last": getattr(aggregator, "last", None) if isinstance(found, (list, tuple)) else found}


def _special(aggregator: Aggregator) -> str:
    """Describe the values that are NaN or infinite; empty if there are none."""
    counts = {name: getattr(aggregator, name, 0) for name in _SPECIALS}
    found = ", ".join(
        f"{_SPECIALS[name]} {'once' if count == 1 else f'{count} times'}" for name, count in counts.items() if count
    )
    last = _summary(aggregator).get("last")
    if not found and isinstance(last, float) and not math.isfinite(last):
        return f"{last} at last"
    return found
