"""Importance of each parameter for a value of the trials: by a random forest, or by correlation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.sampling import sample_of
from trialstream_console.dashboard.selection import Group, Project, Where, selected
from trialstream_console.dashboard.shapes import Limits

__all__ = ["ENDPOINTS"]

Columns = NDArray[np.float64]
_MAX_TRIALS = 2000
_MAX_PARAMETERS = 100
# Most of a hundred parameters may be the same in all trials. Longer values count as equal if they begin alike.
_MAX_PATHS, _MAX_BYTES = 500, 64
# Values of a categorical parameter that are told apart; the rarer ones count as one.
_MAX_CATEGORIES = 20
_TREES = 100
# Columns that are tried for a split: 2,000 columns of 2,000 trials then take some seconds, not a minute.
_MAX_TRIED = 100
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
        trials: Number of trials with a finite target.
        method: `forest` if scikit-learn has weighed the parameters.
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

    The parameters are those that most trials of a sample have (`/columns`).
    """
    query = await selected(context, where, project, group)
    sample = await sample_of(context, where, project, group)
    paths = [each.path for each in sample.columns if each.kind == "parameter"][:_MAX_PATHS]
    protocol = await context.protocol()
    rows = await protocol.fetch_cells([target, *paths], query, max_bytes=_MAX_BYTES, sort="-created", limit=_MAX_TRIALS)
    return await context.in_thread(lambda _: weighed(paths, rows))


def weighed(paths: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Importance:
    """Return the importance of parameters.

    Args:
        paths: Their paths.
        rows: For each trial, the target and the values of the parameters; a trial without a finite target is left out.
    """
    kept = [row for row in rows if _is_finite(row[0])]
    ys = np.array([float(row[0]) for row in kept])
    features = _features(paths, kept) if len(kept) >= _LEAST_TRIALS else []
    correlations = [_correlation(each, ys) for each in features]
    forest = _forest() if features and ys.std() > 0 else None
    weights: Sequence[float] = [abs(each) for each in correlations] if forest is None else forest(features, ys)
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


def _features(paths: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[_Feature]:
    """Return the parameters that have several values, in the order of the paths."""
    found = []
    for name, column in zip(paths, list(zip(*rows, strict=True))[1:], strict=True):
        if feature := _feature(name, column):
            found.append(feature)
        if len(found) == _MAX_PARAMETERS:
            break
    return found


def _feature(name: str, values: Sequence[Any]) -> _Feature | None:
    """Return a parameter as columns of numbers; None if all trials have the same value."""
    if all(map(_is_finite, values)):
        column = np.array(values, dtype=float)
        different = len(np.unique(column))
        return _Feature(name, column[:, None], True, different) if different > 1 else None
    texts = ["" if value is None else repr(value) for value in values]
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
        columns = np.hstack([each.columns for each in features])
        most = min(_MAX_TRIED, columns.shape[1])
        forest = RandomForestRegressor(_TREES, random_state=0, min_samples_leaf=2, n_jobs=1, max_features=most)
        forest.fit(columns, ys)
        ends = np.cumsum([each.columns.shape[1] for each in features])
        return [float(each.sum()) for each in np.split(forest.feature_importances_, ends[:-1])]

    return weigh


ENDPOINTS = (Endpoint("GET", "/importance", importance, places="expensive", etag=True),)
