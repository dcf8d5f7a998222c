"""Bands: statistics of one metric over many trials, on a common grid of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.messages import shown
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.storage.documents import trial_to_document

from trialstream.protocol import BandKey, MetricBands, MetricHistory
from trialstream.reading.checks import checked_number
from trialstream.reading.operands import query_errors
from trialstream.reading.paths import TRIAL_FIELDS, resolve

__all__ = [
    "Curve",
    "bands",
    "bands_by_value",
    "check_grid",
    "check_quantiles",
    "curve",
    "curves_of",
    "even_steps",
    "grid",
    "key_of",
]

Curve: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Distinct steps of a trial, ascending, and the value at each."""

# A thousand trials then take 80 MB.
_MAX_POINTS = 10_000
# Beyond this, numpy's products of numbers and distances are infinite.
_MAX_SPAN = 2.0**1022


def check_grid(points: object) -> int:
    """Check the parameter `points`.

    Args:
        points: Maximum number of points of the grid.

    Returns:
        The number as an int.

    Raises:
        InvalidType: The number is not an integer.
        InvalidValue: The number is out of range.
    """
    return checked_number(points, "points", 2, _MAX_POINTS)


def check_quantiles(quantiles: object) -> list[float]:
    """Check the parameter `quantiles`.

    Args:
        quantiles: Numbers from 0 to 1.

    Returns:
        The numbers as floats.

    Raises:
        InvalidType: The argument is not a list, a tuple or an array of numbers.
        InvalidValue: A number is out of range.
    """
    found = quantiles.tolist() if isinstance(quantiles, np.ndarray) else quantiles
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, (int, float)) for each in found):
        raise InvalidType(f"quantiles: expected a list of numbers, got {shown(quantiles)}")
    if not all(0 <= each <= 1 for each in found):
        raise InvalidValue(f"quantiles: expected numbers from 0 to 1, got {shown(quantiles)}")
    return [float(each) for each in found]


def key_of(trial: Trial, by: str) -> BandKey:
    """Return the value by which a trial is grouped.

    Args:
        trial: The trial; a partial one has the field.
        by: Path of a field, as in queries.

    Returns:
        The value; None if it is missing, and the text of a value that is a list or a dict.

    Raises:
        QueryError: The path is malformed, or its field does not exist.
    """
    with query_errors():
        keys = resolve(by, TRIAL_FIELDS).split(".")
    found: Any = trial_to_document(trial)
    for key in keys:
        if isinstance(found, Mapping):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    if isinstance(found, float) and math.isnan(found):
        return math.nan  # the same object for each, so that they are one key
    return found if isinstance(found, str | int | float | bool | None) else repr(found)


def curve(steps: NDArray[Any], values: NDArray[np.float64]) -> Curve | None:
    """Return the curve of rows: the mean of the values at each step that is a finite number, without NaN.

    Args:
        steps: The step of each row.
        values: The value of each row.

    Returns:
        The curve; None if there is no such row.
    """
    kept = ~np.isnan(values)
    if steps.dtype.kind not in "if":
        kept &= np.array([isinstance(each, (int, float)) for each in steps.tolist()], dtype=bool)
    found, values = steps[kept].astype(np.float64), values[kept]
    if not (finite := np.isfinite(found)).all():
        found, values = found[finite], values[finite]
    if not len(found):
        return None
    if np.all(found[1:] > found[:-1]):  # most are, and sorting would take longer than all else
        return found, values
    distinct, places = np.unique(found, return_inverse=True)
    sums = np.bincount(places, weights=values)
    return distinct, sums / np.bincount(places)


def curves_of(by_uid: Mapping[str, Mapping[str, MetricHistory]], name: str) -> dict[str, Curve]:
    """Return the curves of a metric.

    Args:
        by_uid: For the uid of each trial, the histories by name.
        name: Name of the metric.

    Returns:
        The curves by uid of the trial; without the trials that have none.
    """
    found = {uid: curve(each[name].steps, each[name].values) for uid, each in by_uid.items() if name in each}
    return {uid: each for uid, each in found.items() if each is not None}


def grid(curves: Sequence[Curve], points: int) -> NDArray[np.float64]:
    """Return the common steps of curves: all of them if these are few, otherwise points at equal distances.

    Args:
        curves: The curves.
        points: Maximum number of steps.
    """
    if not curves:
        return np.empty(0)
    steps = np.empty(0)
    for distinct, _ in curves:
        steps = distinct if len(distinct) > points else np.union1d(steps, distinct)
        if len(steps) > points:
            ends = [(float(each[0]), float(each[-1])) for each, _ in curves]
            return even_steps(min(first for first, _ in ends), max(last for _, last in ends), points)
    return steps


def even_steps(first: float, last: float, points: int) -> NDArray[np.float64]:
    """Return numbers at equal distances, ascending, of which the first and the last are exact.

    Args:
        first: The first number; finite.
        last: The last number; finite, and not smaller.
        points: How many, 2 or more.
    """
    scale = 1.0 if float(last) - float(first) < _MAX_SPAN else 4.0
    with np.errstate(over="ignore"):
        found = np.clip(scale * np.linspace(first / scale, last / scale, points), first, last)
    found[0], found[-1] = first, last
    return found


def bands(
    curves: Sequence[Curve], uids: Sequence[str], steps: NDArray[np.float64], quantiles: Sequence[float]
) -> MetricBands:
    """Return the statistics of curves at common steps.

    Args:
        curves: The curves.
        uids: Uids of the trials.
        steps: The steps.
        quantiles: Numbers from 0 to 1.

    Returns:
        The statistics. Each curve is interpolated linearly between its first and its last step.
    """
    table = np.full((len(curves), len(steps)), np.nan)
    with np.errstate(all="ignore"):
        for row, (distinct, values) in zip(table, curves, strict=True):
            row[:] = np.interp(steps, distinct, values, left=np.nan, right=np.nan)
        valid = ~np.isnan(table)
        count = valid.sum(axis=0)
        mean = np.where(valid, table, 0.0).sum(axis=0) / count
        squares = np.where(valid, (table - mean) ** 2, 0.0).sum(axis=0)
        some = count > 0
        levels = np.full((len(quantiles), len(steps)), np.nan)
        if some.any() and quantiles:
            levels[:, some] = np.nanquantile(table[:, some], quantiles, axis=0)
        return MetricBands(
            steps=steps,
            count=count,
            mean=mean,
            std=np.sqrt(squares / count),
            min=np.fmin.reduce(table, axis=0, initial=np.nan),
            max=np.fmax.reduce(table, axis=0, initial=np.nan),
            quantiles=dict(zip(quantiles, levels, strict=True)),
            trials=list(uids),
        )


def bands_by_value(
    trials: Sequence[Trial], curves: Mapping[str, Curve], by: str | None, points: int, quantiles: Sequence[float]
) -> dict[BandKey, MetricBands]:
    """Return the statistics of trials with the same value of a field.

    Args:
        trials: The trials; partial ones have the field.
        curves: The curves by uid of the trial.
        by: Path of the field, as in queries; None for the statistics of all trials, with the key None.
        points: Maximum number of steps.
        quantiles: Numbers from 0 to 1.

    Returns:
        The statistics by value.
    """
    by_key: dict[BandKey, list[str]] = {}
    for each in trials:
        if each.uid in curves:
            by_key.setdefault(None if by is None else key_of(each, by), []).append(each.uid)
    steps = grid(list(curves.values()), points)
    groups = by_key if by is not None or by_key else {None: []}
    return {key: bands([curves[uid] for uid in uids], uids, steps, quantiles) for key, uids in groups.items()}
