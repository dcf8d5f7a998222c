"""Reading: queries over 100,000 trials beside the bare driver, indexes, long histories, and many of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import trialstream as ts
from pymongo import ReplaceOne
from trialstream.reading.fields import partial_fields
from trialstream.reading.history import downsampled
from trialstream.reading.paths import TRIAL_FIELDS
from trialstream.reading.query import translate
from trialstream.reading.sorting import sort_keys
from trialstream.reading.values import value_fields
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.storage.documents import trial_to_document

from benchmarks.bench import NAMES, Bench
from benchmarks.report import Mark, Row, median, ratio

_LIMIT = 50
_TIMES_BARE = 1.5
_SECONDS, _DOWNSAMPLED_SECONDS, _POLL_SECONDS = 1.0, 0.03, 0.005
# Trials that are read as rows of 10 fields, whole aggregators or single values.
_ROWS, _ROWS_MS = 10_000, 100.0
_VALUES = (
    *("status", "created", "started", "finished", "parameters.lr", "parameters.seed", "tags.team"),
    *("metrics.loss.last", "rows", "version"),
)
_FIELDS = (
    *("status", "created", "started", "finished", "parameters.lr", "parameters.seed", "tags.team", "metrics.loss"),
    *("rows", "version"),
)
# Values of the setting `indexes`, and the number of trials whose documents a batch replaces.
_INDEXES = ("", "parameters,tags", "metrics", "metrics.loss.last")
_REPLACED = 1000
# Trials whose histories are read together, and the rows of each.
_MANY, _MANY_ROWS = 200, 256
_TIMES_FASTER = 3.0
_INDEXED: dict[str, tuple[dict[str, Any], str | None]] = {
    "by parameter": ({"parameters.seed": 77}, None),
    "by tag": ({"tags.team": "a7"}, None),
    "by a metric's last value": ({"metrics.loss.last": {"$lt": 0.003}}, None),
    "sorted by a metric's last value": ({}, "-metrics.loss.last"),
}
_QUERIES: dict[str, tuple[dict[str, Any], str | None]] = {
    "by parameter": ({"parameters.seed": 77}, None),
    "by status": ({"status": ts.Status.Running}, None),
    "by tag": ({"tags.team": "a7"}, None),
    "sorted by a metric's last value": ({}, "-metrics.loss.last"),
}


def _trial(n: int) -> ts.Trial:
    created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n)
    trial = ts.Trial(
        name=f"study {n % 100}",
        parameters={"seed": n % 1000, "lr": n / 1e5, "model": "mlp", "layers": [64, 64]},
        tags={"team": f"a{n % 200}"},
        metadata={"host": "node1", "git": "0" * 40},
    )
    for m, name in enumerate(NAMES):
        trial.metrics[name] = each = TimeSeriesAggregator()
        each.extend([(n * (m + 1)) % 9973 / 9973], 1000)
    trial.status = [ts.Status.Running, ts.Status.Completed, ts.Status.Completed, ts.Status.Exception][n % 4]
    trial.created = trial.started = trial.last_seen = created
    trial.writers = {"f" * 16: 300}
    return trial


async def _timed(call: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await call()
    return 1000 * (time.perf_counter() - began)


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    return [
        *await _queries(bench),
        *await _indexes(bench),
        *await _histories(bench),
        *await _many_histories(bench),
    ]


async def _queries(bench: Bench) -> list[Row]:
    config = bench.config()
    count, repeat = (20_000, 5) if bench.quick else (100_000, 11)
    await ensure_indexes(config)
    rows = []
    async with bench.mongo() as client, bench.consumer(config), ts.KafkaProtocol(config) as protocol:
        collection = client[config.database].trials
        for first in range(0, count, 5000):
            await collection.insert_many([trial_to_document(_trial(n)) for n in range(first, first + 5000)])
        for what, (query, sort) in _QUERIES.items():
            filter_, keys = translate(query, TRIAL_FIELDS), sort_keys(sort, TRIAL_FIELDS)
            ours, bare = [], []
            for _ in range(repeat):
                bare.append(await _timed(lambda: collection.find(filter_, sort=keys, limit=_LIMIT).to_list(None)))  # noqa: B023
                ours.append(await _timed(lambda: protocol.fetch_trials(query, sort=sort, limit=_LIMIT)))  # noqa: B023
            marks = [Mark.most("× the bare find", ratio(ours, bare), _TIMES_BARE, "×")]
            what = f"fetch_trials over {count:,}, {what}, limit {_LIMIT}"  # noqa: PLW2901
            rows.append(Row(what, "ms", ours, {"bare find": bare}, marks))
        projection, keys = partial_fields(_FIELDS, "trials").projection, sort_keys(None, TRIAL_FIELDS)
        plain, array = dict.fromkeys(_VALUES, 1), value_fields(_VALUES).projection
        bare, ours, bare_values, bare_arrays, values = [], [], [], [], []
        for _ in range(repeat):
            for each, found in ((bare, projection), (bare_values, plain), (bare_arrays, array)):
                cursor = collection.find({}, found, sort=keys, limit=_ROWS)
                each.append(await _timed(partial(cursor.to_list, None)))
            ours.append(await _timed(lambda: protocol.fetch_trials(limit=_ROWS, fields=_FIELDS)))
            values.append(await _timed(lambda: protocol.fetch_values(_VALUES, limit=_ROWS)))
        rows.append(Row(f"fetch_trials of {_ROWS:,} with {len(_FIELDS)} fields", "ms", ours, {"bare find": bare}))
        beside = {"bare find": bare_values, "bare find of arrays": bare_arrays}
        marks = [Mark.most("ms", median(values), _ROWS_MS)]
        rows.append(Row(f"fetch_values of {_ROWS:,}, {len(_VALUES)} fields", "ms", values, beside, marks))
        await client.drop_database(config.database)
    return rows


async def _indexes(bench: Bench) -> list[Row]:
    """Measure what indexes of users' keys cost the fold, and what they gain for queries."""
    count, repeat = (5000, 5) if bench.quick else (20_000, 15)
    configs = {indexes: replace(bench.config(), indexes=indexes) for indexes in _INDEXES}
    documents = [trial_to_document(_trial(n)) for n in range(count)]
    written: dict[str, list[float]] = {indexes: [] for indexes in _INDEXES}
    found: dict[str, dict[str, list[float]]] = {what: {indexes: [] for indexes in _INDEXES} for what in _INDEXED}
    async with bench.mongo() as client:
        for config in configs.values():
            await ensure_indexes(config)
            await client[config.database].trials.insert_many(documents)
        for turn in range(repeat):
            changed = [_trial(n * 7 % count) for n in range(_REPLACED)]
            for each in changed:
                for metric in each.metrics.values():
                    metric.extend([0.1 + turn / 7, 0.2], turn)
            writes = [ReplaceOne({"_id": each.uid}, trial_to_document(each)) for each in changed]
            for indexes, config in configs.items():
                collection = client[config.database].trials

                async def write(collection: Any = collection, writes: Any = writes) -> None:
                    async with await client.start_session() as session, session.start_transaction():
                        await collection.bulk_write(writes, ordered=False, session=session)

                written[indexes].append(1000 * await _timed(write) / _REPLACED)
                for what, (query, sort) in _INDEXED.items():
                    filter_, keys = translate(query, TRIAL_FIELDS), sort_keys(sort, TRIAL_FIELDS)
                    cursor = collection.find(filter_, sort=keys, limit=_LIMIT)
                    found[what][indexes].append(await _timed(partial(cursor.to_list, None)))
        for config in configs.values():
            await client.drop_database(config.database)
    rows = []
    for what, unit, by in (
        (f"replacing the documents of {_REPLACED:,} trials in a transaction", "µs each", written),
        *((f"a query over {count:,} trials, {what}", "ms", each) for what, each in found.items()),
    ):
        beside = {f"indexes={indexes}": each for indexes, each in by.items() if indexes}
        rows.append(Row(what, unit, by[""], beside))
    return rows


async def _histories(bench: Bench) -> list[Row]:
    config = bench.config()
    [trial] = await bench.trials(config, 1)
    rows, repeat = (256 * 400, 3) if bench.quick else (256 * 3907, 5)
    await bench.fill(config, [trial], rows // 256, names=("loss",))
    rows_read = []
    async with bench.consumer(config), ts.KafkaProtocol(config) as protocol, bench.mongo() as client:
        [seen] = await protocol.fetch_trials({"uid": trial.uid})
        while seen.rows < rows:
            [seen] = await protocol.fetch_trials({"uid": trial.uid})
        bare, whole, sampled, polled = [], [], [], []
        buckets = client[config.database].series
        for _ in range(repeat):
            bare.append(await _timed(lambda: buckets.find({"trial": trial.uid}).to_list(None)))
            whole.append(await _timed(lambda: protocol.fetch_metrics(trial, "loss")))
            sampled.append(await _timed(lambda: protocol.fetch_metrics(trial, "loss", max_points=1000)))
            polled.append(await _timed(lambda: protocol.fetch_metrics(trial, "loss", since_row=rows - 10)))
        history = (await protocol.fetch_metrics(trial, "loss"))["loss"]
        sampling = []
        for _ in range(repeat):
            began = time.perf_counter()
            downsampled(history, 1000)
            sampling.append(1000 * (time.perf_counter() - began))
        for what, times, bound in (
            (f"fetch_metrics of {rows:,} points", whole, _SECONDS),
            (f"fetch_metrics of {rows:,} points, downsampled to 1,000", sampled, _DOWNSAMPLED_SECONDS),
            (f"downsampling of {rows:,} points to 1,000", sampling, _DOWNSAMPLED_SECONDS),
            (f"fetch_metrics since one of the latest rows of {rows:,}", polled, _POLL_SECONDS),
        ):
            beside = {"bare find of the buckets": bare}
            rows_read.append(Row(what, "ms", times, beside, [Mark.most("ms", median(times), 1000 * bound)]))
    return rows_read


async def _many_histories(bench: Bench) -> list[Row]:
    config = bench.config()
    trials = await bench.trials(config, _MANY)
    await bench.fill(config, trials, _MANY, rows=_MANY_ROWS)
    async with bench.consumer(config), ts.KafkaProtocol(config) as protocol, bench.mongo() as client:
        trials = await protocol.fetch_trials(latest=True)

        async def loop() -> None:
            for trial in trials:
                await protocol.fetch_metrics(trial, *NAMES)

        bare, one_by_one, together, latest = [], [], [], []
        filter_ = {"trial": {"$in": [each.uid for each in trials]}}
        for _ in range(5 if bench.quick else 21):
            bare.append(await _timed(lambda: client[config.database].series.find(filter_).to_list(None)))
            one_by_one.append(await _timed(loop))
            together.append(await _timed(lambda: protocol.fetch_histories(trials, *NAMES)))
            latest.append(await _timed(lambda: protocol.fetch_histories(trials, *NAMES, latest=True)))
    what = f"fetch_histories of {_MANY} trials of {_MANY_ROWS} rows of {len(NAMES)}"
    beside = {"bare find of the buckets": bare, "fetch_metrics of each": one_by_one, "with latest": latest}
    marks = [Mark.least("× faster than one by one", ratio(one_by_one, together), _TIMES_FASTER, "×")]
    return [Row(what, "ms", together, beside, marks)]
