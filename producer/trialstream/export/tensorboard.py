"""TensorBoard event files: the scalars of each trial in a folder of its own."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from trialstream_schemas.model.trial import Trial

from trialstream.export.folder import make_folder
from trialstream.export.pages import histories_of, trials_of
from trialstream.files import new_file
from trialstream.protocol import MetricHistory, Protocol, Query
from trialstream.tfevents.protobuf import bytes_field, double_field, float_field, varint_field
from trialstream.tfevents.records import frame

__all__ = ["export_tensorboard"]

logger = logging.getLogger("trialstream")

_NAME = "events.out.tfevents.0.trialstream"


async def export_tensorboard(protocol: Protocol, query: Query | None, folder: str | os.PathLike[str]) -> dict[str, int]:
    """Write the metrics of the trials that match as event files of TensorBoard: `tensorboard --logdir FOLDER`.

    Each trial has one file, in a folder named by its uid; a file of an earlier export is replaced. TensorBoard keeps
    steps as integers and values as floats of 4 bytes: a float step is cut, and a row whose step is a text or None has
    its number as the step.

    Args:
        protocol: The protocol.
        query: As for `fetch_trials`; None for all trials.
        folder: The folder, which is created if need be.

    Returns:
        Number of values written, by the uid of the trial.

    Raises:
        InvalidValue: The folder cannot be created, or is a file.
        QueryError: As for `fetch_trials`.
        MongoUnavailable: As for `fetch_trials`.
    """
    target = make_folder(folder)
    written: dict[str, int] = {}
    async for trials in trials_of(protocol, query):
        for trial in trials:
            if trial.uid in ("", ".", "..") or "/" in trial.uid or "\0" in trial.uid:
                logger.warning("left out the trial %.100r: its uid cannot be the name of a folder", trial.uid)
                continue
            written[trial.uid] = await _export(protocol, trial, make_folder(target / trial.uid))
    return written


async def _export(protocol: Protocol, trial: Trial, folder: Path) -> int:
    total = 0
    with new_file(folder / _NAME, f".{_NAME}.part") as file:
        created = trial.created.timestamp() if trial.created else 0.0
        file.write(frame(double_field(1, created) + bytes_field(3, b"brain.Event:2")))
        async for name, history in histories_of(protocol, trial):
            file.write(await run_sync(_scalars, name, history))
            total += len(history)
    return total


def _scalars(name: str, history: MetricHistory) -> bytes:
    """Encode a history as records: an `Event` with a `Summary` of one value for each row."""
    tag = bytes_field(1, name.encode())
    records = []
    rows = zip(history.steps, history.times.astype("int64"), history.rows, history.values, strict=True)
    for step, micros, row, value in rows:
        summary = bytes_field(1, tag + float_field(2, float(value)))
        event = double_field(1, micros / 1e6) + varint_field(2, _step(step, row)) + bytes_field(5, summary)
        records.append(frame(event))
    return b"".join(records)


def _step(step: Any, row: Any) -> int:
    try:
        found = int(row if step is None or isinstance(step, str) else step)
    except (OverflowError, ValueError):  # an infinite step, or NaN
        found = int(row)
    return max(-(2**63), min(found, 2**63 - 1))
