"""A plain model of the fold: dicts and lists, slow and obvious, and no code in common with the fold.

It keeps every observation and every row, makes all checks before any change, and computes the expected documents at the
end. `expected(meaning(log))` and `reading(documents)` return the same form.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from fractions import Fraction
from urllib.parse import unquote

import bson

STATUSES = {
    "CreatedGroup": 0, "RunningGroup": 100, "Running": 101, "ErrorGroup": 200, "Interrupted": 201, "Exception": 202,
    "Broken": 203, "FinishedGroup": 300, "Suspended": 301, "Completed": 302,
}  # fmt: skip
UNCOUNTED = {"MetricsLogged", "ChronoStarted", "ChronosFinished", "Heartbeat"}


class No(Exception):
    """The event is refused."""


def meaning(log):
    """Meaning of a log: its trials, groups, projects and outcomes, and the positions of dead letters."""
    world = {"trials": {}, "groups": {}, "projects": {}, "outcomes": {}, "dead": []}
    for position, event in enumerate(log):
        world["answer"] = None
        try:
            take(world, event)
        except No:
            world["dead"].append(position)
            if getattr(event, "request", None) is not None:
                world["outcomes"][event.request] = (world["answer"], False, "refused")
    return world


def take(world, event):
    """Apply one event."""
    kind = type(event).__name__
    if kind == "LogCreated":
        return
    if event.request is not None and event.request in world["outcomes"]:
        return
    if kind in ("TrialCreated", "ProjectCreated", "GroupCreated"):
        if event.request is None:
            raise No
        creating = {"TrialCreated": new_trial, "ProjectCreated": new_project, "GroupCreated": new_group}[kind]
        world["outcomes"][event.request] = (*creating(world, event), None)
    else:
        update(world, event, kind)


def names(*given):
    """Names have no NUL and 1,024 bytes at most."""
    for name in given:
        if name is not None and ("\0" in name or len(name.encode()) > 1024):
            raise No


def new_trial(world, event):
    """Create the next revision; nothing if there is one and the event does not ask for another."""
    hash_ = event.trial.split("~")[0]
    if re.fullmatch("[0-9a-f]{32}", hash_) is None:
        raise No
    revision = len([uid for uid in world["trials"] if uid.startswith(hash_)])
    if revision and not event.auto_increment:
        return None, False
    names(event.name, event.version, event.project_id, event.group_id)
    names(*event.parameters, *event.metadata, *event.tags)
    uid = f"{hash_}_{revision}"
    world["trials"][uid] = {
        "uid": uid, "hash": hash_, "revision": revision, "name": event.name, "version": event.version,
        "description": event.description, "project_id": event.project_id, "group_id": event.group_id,
        "parameters": dict(event.parameters), "metadata": dict(event.metadata), "tags": dict(event.tags),
        "metrics": {}, "chronos": {}, "open_chronos": {}, "failed_chronos": {}, "status": None, "errors": [],
        "starts": 0, "created": event.time, "started": None, "finished": None, "last_seen": event.time,
        "writers": {}, "lost_events": 0, "state_version": 0, "history": [],
    }  # fmt: skip
    return uid, True


def new_project(world, event):
    """Create a project; an existing one is left as it is."""
    if event.project in world["projects"]:
        return event.project, False
    names(event.name, *event.metadata, *event.tags)
    if event.name != event.project:
        raise No
    world["projects"][event.project] = {
        "uid": event.project, "description": event.description, "metadata": event.metadata, "tags": event.tags,
        "created": event.time,
    }  # fmt: skip
    return event.project, True


def new_group(world, event):
    """Create a group in an existing project; an existing group is left as it is."""
    if event.group in world["groups"]:
        return event.group, False
    names(event.name, event.project_id, *event.metadata, *event.tags)
    if event.project_id is not None and event.project_id not in world["projects"]:
        raise No
    if event.group != GROUPS.get((event.name, event.project_id)):
        raise No
    world["groups"][event.group] = {
        "uid": event.group, "name": event.name, "project_id": event.project_id, "description": event.description,
        "metadata": dict(event.metadata), "tags": event.tags, "created": event.time, "writers": {}, "lost_events": 0,
        "state_version": 0,
    }  # fmt: skip
    return event.group, True


# Hashes of the groups in the logs, by name and project: literals, so that a changed hash fails the test.
GROUPS = {
    ("g", None): "f50a95c468c50a4061f7f430f91b8b60",
    ("g", "p"): "6ce92021f9cc13a66ceacc97854b9f39",
    ("h", None): "7126212731f53dbab52b5c2b460ae29a",
}


def update(world, event, kind):
    """Apply an event to a trial or group that exists, once, if its version is the claimed one."""
    if kind == "GroupMetadataSet":
        subject = world["groups"].get(event.group)
    else:
        _, _, creator = event.trial.partition("~")
        uid = world["outcomes"].get(creator, (None,))[0] if creator else event.trial
        subject = world["trials"].get(uid)
    if subject is None:
        raise No
    if event.request is None:
        if event.seq < 1 or re.fullmatch("[A-Za-z0-9_-]{1,64}", event.writer) is None:
            raise No
        mark = subject["writers"].get(event.writer, 0)
        if event.seq <= mark:
            return
        subject["lost_events"] = min(subject["lost_events"] + event.seq - mark - 1, 2**63 - 1)
        subject["writers"][event.writer] = event.seq
    if event.if_version is not None and event.if_version != subject["state_version"]:
        if event.request is not None:
            world["outcomes"][event.request] = (subject["uid"], False, None)
        return
    world["answer"] = subject["uid"]
    draft = draft_of(subject)
    change(draft, event, kind)
    draft["state_version"] += kind not in UNCOUNTED
    subject.update(draft)
    if event.request is not None:
        world["outcomes"][event.request] = (subject["uid"], True, None)


def draft_of(x):
    """A copy to change. Lists are copied without their items, which are never changed in place."""
    if isinstance(x, dict):
        return {key: draft_of(each) for key, each in x.items()}
    return list(x) if isinstance(x, list) else x


def change(it, event, kind):
    """Change a draft of the subject; it is dropped when the event is refused on the way."""
    time = event.time
    match kind:
        case "GroupMetadataSet":
            names(*event.values)
            it["metadata"].update(event.values)
            return
        case "MetricsLogged":
            time = max(change_metrics(it, event))
        case "ChronosFinished":
            time = max(change_chronos(it, event))
        case "ChronoStarted":
            observe(it["chronos"], event.name, event.aggregator, [])
            it["open_chronos"][event.name] = it["open_chronos"].get(event.name, 0) + 1
        case "TrialStarted":
            it["status"] = ("Running", 101)
            it["started"] = event.time if it["started"] is None else it["started"]
            it["finished"] = None
            it["starts"] += 1
        case "TrialFinished":
            elapsed = event.elapsed
            if elapsed is None and it["started"] is not None:
                elapsed = max(0.0, (event.time - it["started"]) / 1_000_000)
            if elapsed is not None:
                it["chronos"].setdefault("runtime", new_aggregator("stat", 0))["seen"].append(elapsed)
            it["finished"] = event.time
            ending = "Interrupted" if event.interrupted else "Completed" if event.error is None else "Exception"
            it["status"] = (ending, STATUSES[ending])
            add_error(it, event)
        case "ArgumentsLogged":
            names(*event.values)
            it["parameters"].update(event.values)
        case "TagsAdded":
            names(*event.values)
            it["tags"].update(event.values)
        case "MetadataLogged":
            change_metadata(it, event)
        case "StatusSet":
            names(event.status.name)
            it["status"] = (event.status.name, STATUSES.get(event.status.name, event.status.code))
            add_error(it, event)
        case "TrialAttached":
            names(event.project_id, event.group_id)
            for key in ("project_id", "group_id"):
                if getattr(event, key) is not None:
                    it[key] = getattr(event, key)
    it["last_seen"] = max(it["last_seen"], time)


def change_metrics(it, event):
    """One column per name, one step per row or none."""
    rows = len(event.times)
    steps = [each for each in (event.steps, event.float_steps, event.text_steps) if each]
    if not rows or not event.names or len(set(event.names)) < len(event.names) or len(steps) > 1:
        raise No
    if [len(each) for each in event.columns] != [rows] * len(event.names) or any(len(each) != rows for each in steps):
        raise No
    names(*event.text_steps)
    times = absolute(event)
    steps = steps[0] if steps else [None] * rows
    for name, column in zip(event.names, event.columns, strict=True):
        observe(it["metrics"], name, event.aggregator, column)["last_step"] = steps[-1]
    if plain_timeseries(event.aggregator):
        kind = "int" if event.steps else "float" if event.float_steps else "text" if event.text_steps else "none"
        for row, values in enumerate(zip(*event.columns, strict=True)):
            keep(it, "metrics", event.names, kind, steps[row], times[row], event.writer, values)
    return times


def change_chronos(it, event):
    """Rows that point to names; the counts of a name are no more than there are rows."""
    rows, n = len(event.chronos), len(event.names)
    if not rows or not rows == len(event.times) == len(event.elapsed):
        raise No
    if not n == len(set(event.names)) == len(event.aggregators) == len(event.announced) == len(event.failed):
        raise No
    if any(i not in range(n) for i in event.chronos):
        raise No
    if any(count not in range(rows + 1) for count in (*event.announced, *event.failed)):
        raise No
    times = absolute(event)
    for i, name in enumerate(event.names):
        mine = [row for row in range(rows) if event.chronos[row] == i]
        observe(it["chronos"], name, event.aggregators[i], [event.elapsed[row] for row in mine])
        if plain_timeseries(event.aggregators[i]):
            for row in mine:
                keep(it, "chronos", [name], "none", None, times[row], event.writer, [event.elapsed[row]])
        still_open = it["open_chronos"].pop(name, 0) - event.announced[i]
        if still_open > 0:
            it["open_chronos"][name] = still_open
        if event.failed[i]:
            it["failed_chronos"][name] = it["failed_chronos"].get(name, 0) + event.failed[i]
    return times


def change_metadata(it, event):
    """By key: replace a plain value, or add the value to the key's aggregator, which is made if missing."""
    names(*event.values)
    new_aggregator(event.aggregator.kind, event.aggregator.argument)
    for key, x in event.values.items():
        held = it["metadata"].get(key)
        if event.aggregator.kind == "value" and not is_aggregator(held):
            it["metadata"][key] = x
            continue
        if not is_aggregator(held):
            held = it["metadata"][key] = new_aggregator(event.aggregator.kind, event.aggregator.argument)
        number = isinstance(x, int | float)
        if held["kind"] in ("stat", "timeseries") and not number:
            raise No
        held["seen"].append(x if held["kind"] == "ring" else float(x))
    for key, x in event.values.items():
        if plain_timeseries(event.aggregator) and isinstance(x, int | float):
            keep(it, "metadata", [key], "none", None, event.time, event.writer, [float(x)])


def absolute(event):
    """Times of the rows; each must lie in the calendar."""
    times = [event.time + each for each in event.times]
    if max(map(abs, times)) > 60_000_000_000_000_000:
        raise No
    return times


def plain_timeseries(spec):
    """Whether an aggregator is a time series: only then are rows kept in the history."""
    return (spec.kind, spec.argument) == ("timeseries", 0)


def new_aggregator(kind, argument):
    """An aggregator without observations."""
    least = {"value": None, "timeseries": None, "stat": 0, "ring": 1}
    if kind not in least or (least[kind] is not None and not least[kind] <= argument <= 4096):
        raise No
    return {"aggregator": True, "kind": kind, "argument": argument, "seen": [], "last_step": None}


def is_aggregator(x):
    """Whether a value of metadata is an aggregator."""
    return isinstance(x, dict) and "aggregator" in x


def observe(held, name, spec, xs):
    """Add observations to the aggregator of a name; the first aggregator of a name stays."""
    if name not in held:
        names(name)
        held[name] = new_aggregator(spec.kind, spec.argument)
    held[name]["seen"].extend(xs)
    return held[name]


def add_error(it, event):
    """Keep an error: beginning of type and message, end of the traceback."""
    if event.error is not None:
        it["errors"].append(
            (event.error.type[:256], event.error.message[:2048], event.error.traceback[-8192:], event.time)
        )  # fmt: skip


def keep(it, section, columns, kind, step, time, writer, values):
    """Append a row to the history."""
    it["history"].append((section, tuple(columns), kind, step, time, writer, tuple(values)))


def summary(aggregator):
    """Expected document of an aggregator."""
    kind, seen = aggregator["kind"], aggregator["seen"]
    if kind == "value":
        return {"kind": kind, "last": seen[-1] if seen else None, "count": len(seen)}
    if kind == "ring":
        return {"kind": kind, "argument": aggregator["argument"], "values": seen[-aggregator["argument"] :]}
    skip = aggregator["argument"] if kind == "stat" else 0
    counted = seen[skip:]
    finite = [Fraction(x) for x in counted if math.isfinite(x)]
    mean = sum(finite) / len(finite) if finite else None
    found = {
        "kind": kind,
        "argument": skip,
        "count": len(finite),
        "avg": Rough(mean),
        "sd": Rough(math.sqrt(sum((x - mean) ** 2 for x in finite) / len(finite)) if finite else None),
        "min": float(min(finite)) if finite else None,
        "max": float(max(finite)) if finite else None,
        "sum": Rough(sum(finite)),
        "nan": sum(math.isnan(x) for x in counted),
        "inf": counted.count(math.inf),
        "neginf": counted.count(-math.inf),
    }
    if kind == "timeseries":
        found |= {"last": seen[-1] if seen else None, "last_step": aggregator["last_step"]}
    return found


class Rough:
    """A number that is compared up to rounding."""

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        if self.x is None or other is None:
            return self.x is other
        return math.isclose(self.x, other, rel_tol=1e-9, abs_tol=1e-6)  # of observations up to 1e6

    __hash__ = None

    def __repr__(self):
        return f"about {self.x}"


# --- The common form of a meaning and of documents


def comparable(x):
    """A form in which NaN equals NaN."""
    if isinstance(x, dict):
        return {key: comparable(each) for key, each in x.items()}
    if isinstance(x, list | tuple | array):
        return [comparable(each) for each in x]
    return "NaN" if isinstance(x, float) and math.isnan(x) else x


def expected(world):
    """The meaning of a log in the form that `reading` returns."""
    trials = {}
    for uid, it in world["trials"].items():
        trials[uid] = {
            **it,
            "metrics": {name: summary(each) for name, each in it["metrics"].items()},
            "chronos": {name: summary(each) for name, each in it["chronos"].items()},
            "metadata": {key: summary(each) if is_aggregator(each) else each for key, each in it["metadata"].items()},
            "errors": it["errors"][-32:],
            "errors_dropped": max(0, len(it["errors"]) - 32),
            "rows": len(it["history"]),
        }
    return {
        "trials": trials,
        "groups": world["groups"],
        "projects": world["projects"],
        "outcomes": world["outcomes"],
        "dead": world["dead"],
    }


def reading(documents, dead_letters, capacity):
    """Content of documents, read with nothing but bson and struct."""
    parsed = {name: {uid: bson.decode(each) for uid, each in given.items()} for name, given in documents.items()}
    trials = {}
    for uid, document in parsed["trials"].items():
        it = dict(document)
        assert it.pop("_id") == uid
        buckets = [each for each in parsed["series"].values() if each["trial"] == uid]
        it.pop("size")
        trials[uid] = {
            **it,
            "uid": uid,
            **{key: read_value(it[key]) for key in ("parameters", "tags", "open_chronos", "failed_chronos")},
            **{key: {read_key(name): read_aggregator(each) for name, each in it[key].items()} for key in
               ("metadata", "metrics", "chronos")},
            "status": it["status"] and (it["status"]["name"], it["status"]["code"]),
            "errors": [tuple(each.values()) for each in it["errors"]],
            "history": read_history(buckets, capacity),
        }  # fmt: skip
    for name in ("groups", "projects"):
        for uid, document in parsed[name].items():
            assert document.pop("_id") == uid
            document["uid"] = uid
            document["metadata"], document["tags"] = read_value(document["metadata"]), read_value(document["tags"])
    for document in parsed["projects"].values():
        assert document.pop("name") == document["uid"]
    return {
        "trials": trials,
        "groups": parsed["groups"],
        "projects": parsed["projects"],
        "outcomes": {
            uid: (each["uid"], each["applied"], each["reason"] and "refused")
            for uid, each in parsed["outcomes"].items()
        },
        "dead": [position for position, _ in dead_letters],
    }


def read_key(key):
    """The user's key for a document's."""
    return "" if key == "%" else unquote(key)


def read_value(x):
    """The user's value for a document's."""
    if isinstance(x, dict):
        return {read_key(key): read_value(each) for key, each in x.items()}
    return [read_value(each) for each in x] if isinstance(x, list) else x


def read_aggregator(x):
    """A value, or the statistics of an aggregator."""
    if not isinstance(x, dict) or "%kind" not in x:
        return read_value(x)
    x = {"kind": x["%kind"], **x}
    statistics = ["kind", "argument", "count", "avg", "sd", "min", "max", "sum", "nan", "inf", "neginf"]
    keys = {
        "value": ["kind", "last", "count"],
        "ring": ["kind", "argument", "values"],
        "stat": statistics,
        "timeseries": [*statistics, "last", "last_step"],
    }[x["kind"]]
    return {key: read_value(x[key]) for key in keys}


def read_history(buckets, capacity):
    """The rows of all buckets of a trial, in the order of the log."""
    rows = {}
    numbers: dict[str, list[int]] = {}
    for bucket in buckets:
        n, kind = bucket["rows"], bucket["step_type"]
        _, shape, last = bucket["_id"].split("/")
        numbers.setdefault(shape, []).append(bucket["number"])
        # A bucket of wide rows holds fewer, so that it stays under 1 MiB; a text step may take 1,024 bytes.
        width = 8 * (len(bucket["names"]) + 1) + {"int": 8, "float": 8, "text": 1024, "none": 0}[kind]
        full = min(capacity, 2**20 // width)
        at = f"{bucket['_id']} holds {n} rows, {full} fill it"
        assert n < full if last == "open" else (n == full and last == str(bucket["number"])), at
        times = struct.unpack(f"<{n}q", bucket["times"])
        packed = {"int": "q", "float": "d"}.get(kind)
        steps = struct.unpack(f"<{n}{packed}", bucket["steps"]) if packed else list(bucket["steps"]) or [None] * n
        names = tuple(bucket["names"])
        assert [read_key(key) for key in bucket["values"]] == list(names)
        columns = [struct.unpack(f"<{n}d", column) for column in bucket["values"].values()]
        places = [(first + i, writer) for first, length, writer in bucket["segments"] for i in range(length)]
        assert len(places) == n
        for i, (number, writer) in enumerate(places):
            assert number not in rows
            values = tuple(column[i] for column in columns)
            rows[number] = (bucket["section"], names, kind, steps[i], times[i], writer, values)
    assert all(sorted(each) == list(range(len(each))) for each in numbers.values())
    assert sorted(rows) == list(range(len(rows)))
    return [rows[number] for number in sorted(rows)]
