"""The paths of a bounded sample of trials, for choosing columns and for completion."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from trialstream.reading.paths import TRIAL_FIELDS, is_time, path
from trialstream.sync import SyncProtocol
from trialstream_schemas.model.aggregators import Aggregator
from trialstream_schemas.model.trial import Trial

from trialstream_console.dashboard.caches import PerContext, Recent
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.selection import selected
from trialstream_console.queries import Column

__all__ = ["Sample", "sample_of"]

# The latest trials, as far as their documents take no more memory than that.
_MAX_TRIALS = 500
_MAX_BYTES = 16 * 1024 * 1024
# Keys of dicts are repeated in the paths of all that is in them.
_MAX_COLUMNS, _MAX_PATHS = 20_000, 4_000_000
_MAX_DEPTH = 4
_MAX_TEXTS, _MAX_TEXT = 20, 64
_SECONDS, _MOST = 10.0, 16
_TEXT_FIELDS = frozenset({"uid", "hash", "name", "version", "description", "project_id", "group_id"})
_NUMBER_FIELDS = ("revision", "state_version", "lost_events", "starts", "rows", "size", "errors_dropped")
_SUMMARIES = {
    "metric": ("last", "min", "max", "avg", "sd", "count", "last_step", "best", "best_step"),
    "chrono": ("sum", "avg", "last", "min", "max", "sd", "count"),
    "metadata": ("last", "min", "max", "avg", "sd", "sum", "count", "value"),
}


class Sample(NamedTuple):
    """The columns of a sample.

    Attributes:
        columns: The columns, of which the fields come first, then the more frequent ones.
        counts: Number of trials that have each of them.
        trials: Number of trials of the sample.
    """

    columns: list[Column]
    counts: list[int]
    trials: int


_RECENT = PerContext[Recent[Sample]](lambda _: Recent(_SECONDS, _MOST))


async def sample_of(context: Context, where: str, project: str | None, group: str | None) -> Sample:
    """Return the columns of the trials of a view, at most ten seconds old.

    Args:
        context: The context.
        where: Query as text; empty for all trials.
        project: Uid of a project; None or empty for all.
        group: Uid of a group; None or empty for all.

    Raises:
        WhereError: The text is no query; `column` is where.
    """

    async def sample() -> Sample:
        query = await selected(context, where, project, group)
        return await context.in_thread(partial(_sampled, query))

    return await _RECENT.of(context).get((where.strip(), project or "", group or ""), sample)


def _sampled(query: dict[str, Any], protocol: SyncProtocol) -> Sample:
    uids: list[str] = []
    left = _MAX_BYTES
    for uid, size in protocol.fetch_values(["uid", "size"], query, sort="-created", limit=_MAX_TRIALS):
        left -= size or 0
        if uids and left < 0:
            break
        uids.append(uid)
    fields = ["parameters", "tags", "metadata", "metrics", "chronos"]
    return _counted(protocol.fetch_trials({"uid": {"$in": uids}}, fields=fields))


def _counted(trials: list[Trial]) -> Sample:
    counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
    types: defaultdict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    texts: defaultdict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for trial in trials:
        for kind, field, values in _fields(trial):
            for keys, value in _leaves((field,), values):
                column = kind, keys
                counts[column] += 1
                types[column].add(_type(value))
                if isinstance(value, str) and len(value) <= _MAX_TEXT and len(texts[column]) < _MAX_TEXTS:
                    texts[column].add(value)
    columns, numbers = list(_field_columns()), [len(trials)] * len(TRIAL_FIELDS)
    left = _MAX_PATHS
    for (kind, keys), count in counts.most_common(_MAX_COLUMNS - len(columns)):
        kinds = types[kind, keys]
        type_ = kinds.pop() if len(kinds) == 1 else "mixed"
        columns.append(Column(path(*keys), kind, type_, tuple(sorted(texts[kind, keys]))))
        numbers.append(count)
        left -= len(columns[-1].path)
        if left < 0:
            break
    return Sample(columns, numbers, len(trials))


def _field_columns() -> Iterator[Column]:
    for name in TRIAL_FIELDS:
        if name == "status":
            type_ = "status"
        elif is_time(name):
            type_ = "time"
        else:
            type_ = "text" if name in _TEXT_FIELDS else "number" if name in _NUMBER_FIELDS else "mixed"
        yield Column(name, "field", type_)


def _fields(trial: Trial) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    yield "parameter", "parameters", trial.parameters
    yield "tag", "tags", trial.tags
    yield "metadata", "metadata", trial.metadata
    yield "metric", "metrics", trial.metrics
    yield "chrono", "chronos", trial.chronos


def _leaves(keys: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        inner = (*keys, name)
        if isinstance(value, Aggregator):
            kind = {"metrics": "metric", "chronos": "chrono"}.get(keys[0], "metadata")
            yield from (((*inner, each), getattr(value, each)) for each in _SUMMARIES[kind] if hasattr(value, each))
        elif isinstance(value, Mapping) and value and len(inner) < _MAX_DEPTH:
            yield from _leaves(inner, value)
        else:
            yield inner, value


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "mixed"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else "mixed"
