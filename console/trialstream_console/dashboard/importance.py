"""Importance of each parameter for a value of the trials: by a random forest, or by correlation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from trialstream.reading.paths import path
from trialstream.reading.values import LongValue

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.selection import Group, Project, Where, selected
from trialstream_console.dashboard.shapes import Limits

__all__ = ["ENDPOINTS"]

Columns = NDArray[np.float64]
_MAX_TRIALS = 2000
_MAX_PARAMETERS = 100
# The parameters of 2,000 trials may take 16 KiB each: some hundreds of them.
_MAX_BYTES = 32 * 1024 * 1024
_MAX_DEPTH = 4
# Values of a categorical parameter that are told apart; the rarer ones count as one.
_MAX_CATEGORIES = 20
_TREES = 100
_LEAST_TRIALS = 3


class Parameter(TypedDict):
    """The importance of a parameter.

    Attributes:
        path: Path of the parameter.
        importance: Importance, 0 to 1; of a forest, the sum of all is 1.
        correlation: Rank correlation with the target, -1 to 1; null for a parameter that is no number.
        values: Number of different values.
    """

    path: str
    importance: float
    correlation: float | None
    values: int


class Importance(TypedDict):
    """Importance of each parameter.

    Attributes:
        trials: Number of trials with a finite target, whose parameters are not too large.
        method: `forest` if scikit-learn is installed.
        parameters: The parameters with several values, the most important ones first.
    """

    trials: int
    method: Literal["forest", "correlation"]
    parameters: list[Parameter]


class _Feature(NamedTuple):
    path: str
    columns: Columns  # by trial: the number, or whether it is of each category
    numeric: bool
    values: int


async def importance(
    context: Context,
    target: Annotated[str, Limits("Path of a number, such as metrics.loss.last.", 1, 1024)],
    where: Where = "",
    project: Project = None,
    group: Group = None,
) -> Importance:
    """Importance of each parameter for a number of the latest 2,000 trials of a view.

    Parameters may take 32 MiB of all trials together: a trial that has more than its share of it is left out.
    """
    query = await selected(context, where, project, group)
    protocol = await context.protocol()
    count = min(_MAX_TRIALS, await protocol.count_trials(query))
    most = _MAX_BYTES // max(1, count)
    rows = await protocol.fetch_cells(["parameters", target], query, max_bytes=most, sort="-created", limit=_MAX_TRIALS)
    return await context.in_thread(lambda _: weighed(rows))


def weighed(rows: Sequence[tuple[Any, Any]]) -> Importance:
    """Return the importance of each parameter.

    Args:
        rows: For each trial, its parameters and the target; a trial without a finite target, or with parameters that
            are too large, is left out.
    """
    kept = [
        (parameters or {}, float(value))
        for parameters, value in rows
        if _is_finite(value) and not isinstance(parameters, LongValue)
    ]
    ys = np.array([value for _, value in kept])
    features = _features([parameters for parameters, _ in kept]) if len(kept) >= _LEAST_TRIALS else []
    correlations = [_correlation(each, ys) for each in features]
    forest = _forest()
    weights: Sequence[float] = [abs(each) for each in correlations]
    if forest is not None and features and ys.std() > 0:
        weights = forest(features, ys)
    found: list[Parameter] = [
        {
            "path": each.path,
            "importance": round(float(weight), 6),
            "correlation": round(correlation, 6) if each.numeric else None,
            "values": each.values,
        }
        for each, weight, correlation in zip(features, weights, correlations, strict=True)
    ]
    found.sort(key=lambda each: (-each["importance"], each["path"]))
    return {"trials": len(kept), "method": "correlation" if forest is None else "forest", "parameters": found}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _features(parameters: Sequence[Mapping[str, Any]]) -> list[_Feature]:
    """Return the parameters that have several values, the most frequent ones first."""
    columns: dict[tuple[str, ...], dict[int, Any]] = {}
    for row, each in enumerate(parameters):
        for keys, value in _leaves(("parameters",), each):
            columns.setdefault(keys, {})[row] = value
    found = []
    for keys, values in sorted(columns.items(), key=lambda each: -len(each[1])):
        if feature := _feature(path(*keys), values, len(parameters)):
            found.append(feature)
        if len(found) == _MAX_PARAMETERS:
            break
    return found


def _leaves(keys: tuple[str, ...], values: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, value in values.items():
        inner = (*keys, name)
        if isinstance(value, Mapping) and len(inner) < _MAX_DEPTH:
            found += _leaves(inner, value)
        else:
            found.append((inner, value))
    return found


def _feature(name: str, values: Mapping[int, Any], rows: int) -> _Feature | None:
    """Return a parameter as columns of numbers; None if all trials have the same value."""
    if len(values) == rows and all(map(_is_finite, values.values())):
        column = np.array([float(values[row]) for row in range(rows)])
        different = len(np.unique(column))
        return _Feature(name, column[:, None], True, different) if different > 1 else None
    texts = [repr(values[row]) if row in values else "" for row in range(rows)]
    categories, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    if len(categories) < 2:
        return None
    frequent = np.argsort(-counts, kind="stable")[:_MAX_CATEGORIES]
    return _Feature(name, (codes[:, None] == frequent).astype(float), False, len(categories))


def _correlation(feature: _Feature, ys: Columns) -> float:
    """Return the rank correlation of a number with the target; of categories, the correlation ratio of the ranks."""
    ranks = _ranks(ys)
    spread = ranks.std()
    if not spread:
        return 0.0
    if feature.numeric:
        xs = _ranks(feature.columns[:, 0])
        return float(np.mean((xs - xs.mean()) * (ranks - ranks.mean())) / (xs.std() * spread))
    rest = 1 - feature.columns.sum(axis=1, keepdims=True)
    groups = np.hstack([feature.columns, rest])
    counts = groups.sum(axis=0)
    means = (groups * ranks[:, None]).sum(axis=0)[counts > 0] / counts[counts > 0]
    between = float((counts[counts > 0] * (means - ranks.mean()) ** 2).sum() / len(ys))
    return math.sqrt(min(1.0, between / spread**2))


def _ranks(xs: Columns) -> Columns:
    """Return the rank of each value; equal ones have the mean of their ranks."""
    _, inverse, counts = np.unique(xs, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=float)


def _forest() -> Callable[[list[_Feature], Columns], list[float]] | None:
    """Return the function that weighs features by a random forest; None if scikit-learn is not installed."""
    try:
        from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415 - an optional dependency
    except ImportError:
        return None

    def weigh(features: list[_Feature], ys: Columns) -> list[float]:
        forest = RandomForestRegressor(_TREES, random_state=0, min_samples_leaf=2, n_jobs=1)
        forest.fit(np.hstack([each.columns for each in features]), ys)
        ends = np.cumsum([each.columns.shape[1] for each in features])
        return [float(each.sum()) for each in np.split(forest.feature_importances_, ends[:-1])]

    return weigh


ENDPOINTS = (Endpoint("GET", "/importance", importance, expensive=True, etag=True),)
