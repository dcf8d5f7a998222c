"""Histories in: runs of other trackers become trials.

    from trialstream.imports import import_runs, tensorboard_runs

    imported = await import_runs(config, tensorboard_runs("runs"), project="digits")

A *source run* is what another tracker calls a run: it becomes one trial, whose metadata has `imported.source`, its id.
An import may be killed, run again, and run twice at a time: nothing is doubled. How that holds:

- the creation has a request id that is made from the id of the source run, so the fold creates one trial;
- a source run has streams, to which its tracker only appends, such as one file. Each row of a stream is one event whose
  writer is made from the ids of run and stream, and whose `seq` is its place in the stream. The fold skips what it has;
- a later import reads the mark of the writer in the trial, and sends the rows behind it. A digest of the rows that were
  imported before shows a source that was changed, which is refused.

| module | what it does |
|---|---|
| `runs` | what a source run is |
| `importing` | sends source runs to the log |
| `events` | the events of a source run |
| `tensorboard`, `wandb`, `mlflow`, `sacred`, `tables` | source runs of each tracker, and of CSV and JSONL files |
| `wandb_log` | the records of `.wandb` files |
| `bounds` | values of other trackers within the bounds of the log |
"""

from __future__ import annotations

from trialstream.imports.importing import ImportedRun, import_runs
from trialstream.imports.mlflow import mlflow_runs
from trialstream.imports.runs import SourceRun
from trialstream.imports.sacred import sacred_runs
from trialstream.imports.tables import Columns, csv_run, jsonl_run
from trialstream.imports.tensorboard import tensorboard_runs
from trialstream.imports.wandb import wandb_runs

__all__ = [
    "Columns",
    "ImportedRun",
    "SourceRun",
    "csv_run",
    "import_runs",
    "jsonl_run",
    "mlflow_runs",
    "sacred_runs",
    "tensorboard_runs",
    "wandb_runs",
]
