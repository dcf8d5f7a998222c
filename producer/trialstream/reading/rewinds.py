"""Superseded rows: the rows of a history that later attempts of its trial have rewound (`model/attempts.py`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.model.history import WriterSpan
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import INT64_MAX, INT64_MIN

__all__ = ["Rewinds"]


class Rewinds:
    """Finds the superseded rows of a trial.

    Args:
        trial: The trial; only its attempts and participants are used.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        steps = [math.inf if each.resume_step is None else each.resume_step for each in trial.attempts]
        # By number of an attempt, from 0: the smallest step from which a later attempt resumed, inf if none has one.
        self._bounds = [*itertools.accumulate(reversed(steps), min, initial=math.inf)][::-1]

    def superseded(
        self, kind: str, spans: Sequence[WriterSpan], steps: NDArray[np.int64] | NDArray[np.float64]
    ) -> NDArray[np.bool_] | None:
        """Find the superseded rows among those of one shape.

        Args:
            kind: Type of the steps: `int`, `float`, `text` or `none`.
            spans: The writers of the rows.
            steps: The step of each row, if they are numbers.

        Returns:
            Whether each row is superseded; None if no row is.
        """
        if kind not in ("int", "float"):
            return None
        firsts = [_first_beyond(kind, self._bounds[self._trial.attempt_of(each.writer)]) for each in spans]
        if all(each is None for each in firsts):
            return None
        counts = np.array([each.rows for each in spans], dtype=np.int64)
        bounds = np.repeat(np.array([each or 0 for each in firsts], dtype=steps.dtype), counts)
        found: NDArray[np.bool_] = steps >= bounds
        found &= np.repeat(np.array([each is not None for each in firsts]), counts)
        return found


def _first_beyond(kind: str, bound: float) -> float | None:
    """Return the smallest step of a type that is larger than a bound; None if there is none.

    So numpy compares exactly: it would compare an integer with a double as doubles, without the last digits of integers
    beyond 2**53.
    """
    if bound == math.inf:
        return None
    if kind == "int":
        return max(INT64_MIN, math.floor(bound) + 1) if bound < INT64_MAX else None
    double = float(bound)
    return double if double > bound else math.nextafter(double, math.inf)
