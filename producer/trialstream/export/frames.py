"""Tables as data frames of pandas, polars and pyarrow, which are imported at the first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from trialstream_schemas.errors import ConfigError

from trialstream.export.columns import Column
from trialstream.export.tables import Form, Given, Table, table_of

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["arrow_table", "arrow_type", "require", "to_arrow", "to_pandas", "to_polars"]


def require(package: str) -> Any:
    """Import an optional package.

    Args:
        package: Name of the package.

    Returns:
        The module.

    Raises:
        ConfigError: The package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"{package}: expected the package, got {error}: install it with pip install 'trialstream[export]'"
        ) from error


def to_pandas(given: Given, *, form: Form = "long") -> pd.DataFrame:
    """Convert trials or histories to a data frame of pandas.

    Missing values are NaN in columns of floats, where pandas does not distinguish them from a logged NaN; `pd.NA` or
    `None` elsewhere.

    Args:
        given: What `fetch_trials`, `fetch_metrics` or `fetch_histories` has returned.
        form: Of histories: `long` for a row for each value, with the columns trial, name, step, time, row, value and
            writer; `wide` for a row for each row that was logged, with a column for each metric.

    Returns:
        The frame. Columns of trials are named by their paths in queries, such as `parameters.lr`.

    Raises:
        ConfigError: The package pandas is not installed.
        InvalidType: The argument is nothing that these methods return.
        InvalidValue: The form is neither `long` nor `wide`.
    """
    pandas = require("pandas")
    nullable = {"int": "Int64", "bool": "boolean"}

    def series(column: Column) -> Any:
        values = column.cells
        if column.kind == "time":
            if isinstance(values, np.ndarray):
                return pandas.Series(values).dt.tz_localize("UTC")
            return pandas.Series(pandas.to_datetime(values, utc=True)).astype("datetime64[us, UTC]")
        if isinstance(values, np.ndarray):
            return pandas.Series(values)
        if column.kind in nullable:
            whole = None not in values
            return pandas.Series(
                values, dtype={"int": "int64", "bool": "bool"}[column.kind] if whole else nullable[column.kind]
            )
        return pandas.Series(values, dtype="float64" if column.kind == "float" else "object")

    frame: pd.DataFrame = pandas.DataFrame({name: series(column) for name, column in table_of(given, form).items()})
    return frame


def to_polars(given: Given, *, form: Form = "long") -> pl.DataFrame:
    """Convert trials or histories to a data frame of polars.

    Args:
        given: As for `to_pandas`.
        form: As for `to_pandas`.

    Returns:
        The frame; missing values are null, and a logged NaN is NaN.

    Raises:
        ConfigError: The package polars is not installed.
        InvalidType: As for `to_pandas`.
        InvalidValue: As for `to_pandas`.
    """
    polars = require("polars")
    types = {
        "bool": polars.Boolean,
        "int": polars.Int64,
        "float": polars.Float64,
        "text": polars.String,
        "bytes": polars.Binary,
        "time": polars.Datetime("us", "UTC"),
    }

    def series(name: str, column: Column) -> Any:
        if column.kind == "time" and isinstance(column.cells, np.ndarray):
            return polars.Series(name, column.cells).dt.replace_time_zone("UTC")
        found = polars.Series(name, column.cells, dtype=types[column.kind])
        return found if column.present is None else found.scatter(np.flatnonzero(~column.present), None)

    frame: pl.DataFrame = polars.DataFrame([series(name, column) for name, column in table_of(given, form).items()])
    return frame


def to_arrow(given: Given, *, form: Form = "long") -> pa.Table:
    """Convert trials or histories to a table of pyarrow.

    Args:
        given: As for `to_pandas`.
        form: As for `to_pandas`.

    Returns:
        The table; missing values are null, and a logged NaN is NaN.

    Raises:
        ConfigError: The package pyarrow is not installed.
        InvalidType: As for `to_pandas`.
        InvalidValue: As for `to_pandas`.
    """
    table: pa.Table = arrow_table(table_of(given, form))
    return table


def arrow_type(kind: str) -> Any:
    """Return pyarrow's type of a `Kind`."""
    pyarrow = require("pyarrow")
    types = {
        "bool": pyarrow.bool_(),
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "text": pyarrow.string(),
        "bytes": pyarrow.binary(),
        "time": pyarrow.timestamp("us", tz="UTC"),
    }
    return types[kind]


def arrow_table(table: Table) -> Any:
    """Convert a table to one of pyarrow."""
    pyarrow = require("pyarrow")
    arrays = {
        name: pyarrow.array(
            column.cells,
            type=arrow_type(column.kind),
            mask=None if column.present is None else ~column.present,
        )
        for name, column in table.items()
    }
    return pyarrow.table(arrays)
