"""Recompute a metric from the event log: the mean of each metric of each trial, without the database.

    trialstream export log.avro
    python examples/replay.py log.avro

An archive holds the events of the log with their schemas; any event can be decoded with the file alone.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from trialstream_consumer.archive.file import Archive
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import MetricsLogged, TrialCreated


def main() -> None:
    """Print the name of each trial with the means of its metrics."""
    archive = Archive.check(Path(sys.argv[1]), progress=lambda *_: None)
    store = SchemaStore.of(archive.schemas)
    names: dict[str, str] = {}
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0])
    for record in archive.logged_records():
        event = store.decode(record["value"])
        if isinstance(event, TrialCreated):
            names[event.hash] = event.name
        elif isinstance(event, MetricsLogged):
            for name, column in zip(event.names, event.columns, strict=True):
                total = sums[names.get(event.hash, event.hash), name]
                total[0] += sum(column)
                total[1] += len(column)
    for (trial, metric), (total, count) in sorted(sums.items()):
        print(f"{trial}: {metric} {total / count:.6f} ({count:.0f} points)")


if __name__ == "__main__":
    main()
