"""Queries on the log and the documents for the tests of exits, forks and deadlines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import trialstream as ts
from service_support import caught_up, records_of
from trialstream.config import Config
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import SubjectEvent


async def logged(config: Config, names: Iterable[str]) -> dict[str, tuple[ts.Trial, list[int]]]:
    """Return, by name, each trial and the steps of its metric `loss`, once the log is folded.

    Exactly one trial must have each name, and none may have lost events.
    """
    await caught_up(config)
    found = {}
    async with ts.KafkaProtocol(replace(config, spool="off")) as protocol:
        for name in names:
            [trial] = await protocol.fetch_trials({"name": name})
            assert trial.lost_events == 0
            found[name] = (trial, list((await protocol.fetch_metrics(trial, "loss"))["loss"].steps))
    return found


async def repeated(config: Config) -> list[tuple[str, str, int]]:
    """Return writer, subject and number of the events that are in the log more than once."""
    store = SchemaStore()
    events = [
        store.decode(record.value)
        for topic in (config.trials_topic, config.registry_topic)
        for record in await records_of(config, topic)
    ]
    counts = Counter(
        (each.writer, each.subject, each.seq)
        for each in events
        if isinstance(each, SubjectEvent) and each.request is None
    )
    return [key for key, count in counts.items() if count > 1]
