r"""Tables of trials and of histories: columns by name, of the same length.

The name of a column is the path of its value in queries: `parameters.optimizer.lr`, `metrics.loss.avg`; a dot in a key
is written `\.`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import Aggregator
from trialstream_schemas.model.trial import Trial

from trialstream.export.columns import Column, Kind, column_of
from trialstream.protocol import MetricHistory
from trialstream.reading.paths import path

__all__ = ["FIXED", "Form", "Given", "Histories", "Table", "long_table", "table_of", "trial_row", "trial_table"]

Form: TypeAlias = Literal["long", "wide"]
Table: TypeAlias = "dict[str, Column]"
Histories: TypeAlias = "Mapping[str, Mapping[str, MetricHistory]]"
"""Histories by uid of the trial and by name, as `fetch_histories` returns them."""
Given: TypeAlias = "Iterable[Trial] | Histories | Mapping[str, MetricHistory]"

FIXED: Mapping[str, Kind] = {
    "uid": "text",
    "name": "text",
    "version": "text",
    "revision": "int",
    "project_id": "text",
    "group_id": "text",
    "status": "text",
    "status_code": "int",
    "created": "time",
    "started": "time",
    "finished": "time",
    "last_seen": "time",
    "starts": "int",
    "rows": "int",
    "lost_events": "int",
    "error_type": "text",
    "error_message": "text",
    "description": "text",
}
"""Columns that every table of trials has, and their types. The errors are the latest ones."""
_KEYED = ("parameters", "tags", "metadata", "metrics", "chronos")


def trial_row(trial: Trial) -> dict[str, Any]:
    """Return the cells of a trial by column."""
    status, error = trial.status, trial.errors[-1] if trial.errors else None
    row = {name: getattr(trial, name, None) for name in FIXED} | {
        "status": status and status.name,
        "status_code": None if status is None else status.value,
        "error_type": error and error.type,
        "error_message": error and error.message,
    }
    for field in _KEYED:
        for key, value in getattr(trial, field).items():
            _flatten(row, value.summary() if isinstance(value, Aggregator) else value, (field, key))
    return row


def _flatten(row: dict[str, Any], value: Any, keys: tuple[str, ...]) -> None:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            _flatten(row, each, (*keys, key))
    else:
        row[path(*keys)] = value


def trial_table(trials: Iterable[Trial]) -> Table:
    """Return the table of trials: a row for each, the fixed columns first, the others sorted by name."""
    rows = [trial_row(trial) for trial in trials]
    names = [*FIXED, *sorted({name for row in rows for name in row} - {*FIXED})]
    return {name: column_of([row.get(name) for row in rows], FIXED.get(name)) for name in names}


def long_table(histories: Histories) -> Table:
    """Return the long table of histories: a row for each value."""
    parts = [(uid, name, each) for uid, named in histories.items() for name, each in named.items()]
    found = [each for _, _, each in parts]
    return {
        "trial": Column("text", [uid for uid, _, each in parts for _ in range(len(each))]),
        "name": Column("text", [name for _, name, each in parts for _ in range(len(each))]),
        "step": _steps([each.steps for each in found]),
        "time": Column("time", _joined([each.times for each in found], "datetime64[us]")),
        "row": Column("int", _joined([each.rows for each in found], "int64")),
        "value": Column("float", _joined([each.values for each in found], "float64")),
        "writer": Column("text", _joined([each.writers for each in found], "object").tolist()),
    }


def _wide_table(histories: Histories) -> Table:
    """Return the wide table of histories: a row for each row of a trial, a column for each metric."""
    uids: list[str] = []
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("steps", "times", "rows", "writers")}
    names = sorted({name for named in histories.values() for name in named})
    columns: dict[str, tuple[list[Any], list[Any]]] = {name: ([], []) for name in names}
    total = 0
    for uid, named in histories.items():
        found = list(named.values())
        if not found:
            continue
        rows, first = np.unique(np.concatenate([each.rows for each in found]), return_index=True)
        parts["rows"].append(rows)
        parts["times"].append(np.concatenate([each.times for each in found])[first])
        parts["writers"].append(np.concatenate([each.writers for each in found])[first])
        parts["steps"].append(_mixed([each.steps for each in found])[first])
        for name, each in named.items():
            columns[name][0].append(total + np.searchsorted(rows, each.rows))
            columns[name][1].append(each.values)
        uids += [uid] * len(rows)
        total += len(rows)
    table = {
        "trial": Column("text", uids),
        "row": Column("int", _joined(parts["rows"], "int64")),
        "step": _steps(parts["steps"]),
        "time": Column("time", _joined(parts["times"], "datetime64[us]")),
        "writer": Column("text", _joined(parts["writers"], "object").tolist()),
    }
    for name, (places, values) in columns.items():
        column, present = np.full(total, np.nan), np.zeros(total, dtype=bool)
        where = _joined(places, "int64")
        column[where], present[where] = _joined(values, "float64"), True
        table[path("metrics", name)] = Column("float", column, present)
    return table


def table_of(given: Given, form: Form) -> Table:
    """Return the table of what `fetch_trials`, `fetch_metrics` or `fetch_histories` has returned.

    Raises:
        InvalidType: The argument is nothing of these.
        InvalidValue: The form is neither `long` nor `wide`.
    """
    if form not in ("long", "wide"):
        raise InvalidValue(f"form: expected 'long' or 'wide', got {form!r}")
    if isinstance(given, Mapping):
        by_trial = {"": given} if any(isinstance(each, MetricHistory) for each in given.values()) else given
        for named in by_trial.values():
            if not isinstance(named, Mapping) or not all(isinstance(each, MetricHistory) for each in named.values()):
                raise InvalidType(f"histories: expected what fetch_histories returns, got {type(named).__name__}")
        table = long_table(by_trial) if form == "long" else _wide_table(by_trial)  # type: ignore[arg-type]
        if by_trial is not given:  # the histories of one trial, which fetch_metrics does not name
            del table["trial"]
        return table
    trials = list(given)
    for trial in trials:
        if not isinstance(trial, Trial):
            raise InvalidType(f"trials: expected what fetch_trials returns, got {type(trial).__name__}")
    return trial_table(trials)


def _joined(parts: Sequence[NDArray[Any]], dtype: str) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype=dtype)


def _mixed(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join arrays of steps without a loss: integers and floats together stay what they are."""
    if len({each.dtype for each in parts}) == 1:
        return np.concatenate(parts)
    return np.concatenate([each.astype(object) for each in parts])


def _steps(parts: Sequence[NDArray[Any]]) -> Column:
    steps = _mixed(parts) if parts else np.empty(0, dtype="int64")
    if steps.dtype != object:
        return Column("int" if steps.dtype == np.int64 else "float", steps)
    return column_of(steps.tolist())
