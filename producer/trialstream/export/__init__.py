"""Data out: trials and metrics as data frames, as Parquet or CSV files, and as event files of TensorBoard.

    from trialstream.export import export_parquet, to_pandas

    trials = await protocol.fetch_trials({"name": "mlp"})
    frame = to_pandas(trials)
    metrics = to_pandas(await protocol.fetch_histories(trials, "loss"), form="wide")
    await export_parquet(protocol, {"name": "mlp"}, "folder")

`to_pandas`, `to_polars` and `to_arrow` convert what `fetch_trials`, `fetch_metrics` and `fetch_histories` have
returned; the protocol may be asynchronous or blocking. The exports are coroutines that take an asynchronous protocol;
they read piece by piece, and give each file its final name once it is whole.

pandas, polars and pyarrow are imported when they are needed: `pip install 'trialstream[export]'`. CSV and TensorBoard's
files need nothing.

| module | what it does |
|---|---|
| `columns` | types of columns: what values of mixed types become |
| `tables` | trials and histories as tables of columns |
| `frames` | tables as data frames |
| `folder` | the folder of an export |
| `pages` | reads the trials of a query, and their histories, piece by piece |
| `files` | Parquet and CSV |
| `tensorboard` | event files of TensorBoard |
"""

from __future__ import annotations

from trialstream.export.files import Exported, export_csv, export_parquet
from trialstream.export.frames import to_arrow, to_pandas, to_polars
from trialstream.export.tensorboard import export_tensorboard

__all__ = ["Exported", "export_csv", "export_parquet", "export_tensorboard", "to_arrow", "to_pandas", "to_polars"]
