"""Source runs of Sacred, read from the MongoDB of its observer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pymongo
from pymongo.errors import PyMongoError
from trialstream_schemas.errors import MongoUnavailable
from trialstream_schemas.model.times import to_micros

from trialstream.imports.runs import End, Row, SourceRun, Stream
from trialstream.reading.uri import check_uri

__all__ = ["sacred_runs"]

_TIMEOUT_SECONDS = 30.0
_FINISHED = {"COMPLETED", "FAILED", "INTERRUPTED", "TIMEOUT"}
_LEFT_OUT = {"artifacts": "artifacts", "resources": "resources", "captured_out": "captured output"}


def sacred_runs(uri: str, database: str, *, collection: str = "runs") -> Iterator[SourceRun]:
    """Read the runs that a MongoObserver of Sacred has written.

    The configuration becomes parameters; result, info, host, command and seed become metadata. Each metric is a stream.

    Args:
        uri: URI of the MongoDB.
        database: Name of its database.
        collection: Name of the collection of runs; that of the metrics is `metrics`.

    Yields:
        The source runs, by id.

    Raises:
        MongoUnavailable: MongoDB does not answer, or refuses the query.
        ConfigError: The URI is invalid.
    """
    check_uri(uri)
    milliseconds = int(_TIMEOUT_SECONDS * 1000)
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri, serverSelectionTimeoutMS=milliseconds)
    try:
        found = client[database]
        for run in found[collection].find().sort("_id", 1):
            yield _run(found, database, run)
    except PyMongoError as error:
        raise MongoUnavailable(f"MongoDB of Sacred: {error}") from error


def _run(database: Any, name: str, found: dict[str, Any]) -> SourceRun:
    started = found.get("start_time") or found.get("queue_time") or datetime(1970, 1, 1)  # noqa: DTZ001 (as Sacred's)
    status = found.get("status")
    experiment = found.get("experiment") or {}
    info = {key: each for key, each in (found.get("info") or {}).items() if key != "metrics"}
    config = found.get("config") or {}
    run = SourceRun(
        # Sacred numbers its runs from 1 in each database.
        source=f"sacred:{name}/{found['_id']}/{started.isoformat()}",
        name=experiment.get("name") or str(found["_id"]),
        created=_micros(started),
        parameters=_plain({key: each for key, each in config.items() if key != "seed"}),
        metadata=_plain(
            {
                key: each
                for key, each in {
                    "id": found["_id"],
                    "result": found.get("result"),
                    "info": info,
                    "host": found.get("host"),
                    "command": found.get("command"),
                    "seed": config.get("seed"),
                    "comment": (found.get("meta") or {}).get("comment"),
                }.items()
                if each not in (None, {}, "")
            }
        ),
        project=experiment.get("name"),
    )
    for key, what in _LEFT_OUT.items():
        if held := found.get(key):
            run.left_out[what] += 1 if isinstance(held, str) else len(held)
    if status in _FINISHED:
        time = found.get("stop_time") or found.get("heartbeat") or started
        trace = found.get("fail_trace") or []
        error = "".join(map(str, trace))[-2000:] or status.lower()
        run.end = End(_micros(time), status == "INTERRUPTED", error if status in ("FAILED", "TIMEOUT") else None)
    metrics = database["metrics"]
    for metric in metrics.find({"run_id": found["_id"]}, {"name": 1}).sort("name", 1):
        run.streams.append(Stream(metric["name"], 1, partial(_rows, metrics, metric)))
    return run


def _rows(metrics: Any, metric: dict[str, Any]) -> Iterator[Row]:
    try:
        found = metrics.find_one({"_id": metric["_id"]}) or {}
    except PyMongoError as error:
        raise MongoUnavailable(f"MongoDB of Sacred: {error}") from error
    columns = [found.get(key) or () for key in ("steps", "timestamps", "values")]
    for step, time, value in zip(*columns, strict=False):  # a run may just be adding to the three lists
        if isinstance(value, (int, float)):
            yield Row(step, _micros(time), {metric["name"]: float(value)}, 1)


def _micros(time: Any) -> int:
    return to_micros(time.replace(tzinfo=UTC)) if isinstance(time, datetime) else 0


def _plain(x: Any) -> Any:
    """Return a value of BSON as one that can be stored: ids and times become texts."""
    match x:
        case dict():
            return {str(key): _plain(each) for key, each in x.items()}
        case list():
            return [_plain(each) for each in x]
        case None | bool() | int() | float() | str() | bytes():
            return x
        case datetime():
            return x.replace(tzinfo=UTC).isoformat()
    return str(x)
