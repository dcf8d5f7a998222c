"""A plain model of the fold: dicts and lists, slow and simple, and without any code of the fold.

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
# The bounds of the fold, which tests make smaller there and here.
BOUNDS = {"attempts": 512, "participants": 2048, "joins": 12 * 1024}
UNCOUNTED = {"MetricsLogged", "ChronoStarted", "ChronosFinished", "Heartbeat"}


class Refused(Exception):
    """The event is refused."""


def meaning(log):
    """Return the meaning of a log: its trials, groups, projects and outcomes, and the positions of dead letters."""
    world = {"trials": {}, "groups": {}, "projects": {}, "outcomes": {}, "dead": []}
    for position, event in enumerate(log):
        world["answer"] = None
        try:
            take(world, event)
        except Refused:
            world["dead"].append(position)
            if getattr(event, "request", None) is not None:
                world["outcomes"][place(event)] = (world["answer"], False, "refused")
    return world


def place(event):
    """Return the id of the outcome of an event's request, which is that of its subject and the request together."""
    for kind in ("project", "group"):
        if hasattr(event, kind):
            return f"{getattr(event, kind)}~{event.request}/{kind}"
    return f"{re.split('[~_]', event.trial)[0]}~{event.request}"


def take(world, event):
    """Apply one event."""
    kind = type(event).__name__
    if kind == "LogCreated":
        return
    if event.request is not None and place(event) in world["outcomes"]:
        return
    if kind in ("TrialCreated", "ProjectCreated", "GroupCreated"):
        if event.request is None:
            raise Refused
        creating = {"TrialCreated": new_trial, "ProjectCreated": new_project, "GroupCreated": new_group}[kind]
        world["outcomes"][place(event)] = (*creating(world, event), None)
    else:
        update(world, event, kind)


def names(*given):
    """Check that names have no NUL and 1,024 bytes at most."""
    for name in given:
        if name is not None and ("\0" in name or len(name.encode()) > 1024):
            raise Refused


def new_trial(world, event):
    """Create the next revision, unless the trial exists and the event does not request another revision."""
    hash_ = event.trial.split("~")[0]
    if re.fullmatch("[0-9a-f]{32}", hash_) is None:
        raise Refused
    revision = len([uid for uid in world["trials"] if uid.startswith(hash_)])
    if revision and not event.auto_increment:
        return None, False
    names(event.name, event.version, event.project_id, event.group_id)
    names(*event.parameters, *event.metadata, *event.tags)
    status = ("CreatedGroup", 0)
    if event.status is not None:
        names(event.status.name)
        status = (event.status.name, STATUSES.get(event.status.name, event.status.code))
    uid = f"{hash_}_{revision}"
    world["trials"][uid] = {
        "uid": uid, "hash": hash_, "revision": revision, "name": event.name, "version": event.version,
        "description": event.description, "project_id": event.project_id, "group_id": event.group_id,
        "parameters": dict(event.parameters), "metadata": dict(event.metadata), "tags": dict(event.tags),
        "metrics": {}, "chronos": {}, "open_chronos": {}, "failed_chronos": {}, "status": status, "errors": [],
        "starts": 0, "created": event.time, "started": None, "finished": None, "last_seen": event.time,
        "writers": {}, "lost_events": 0, "state_version": 0, "history": [],
        "attempts": [], "participants": {}, "former_participants": {},
    }  # fmt: skip
    return uid, True


def new_project(world, event):
    """Create a project; an existing one stays unchanged."""
    if event.project in world["projects"]:
        return event.project, False
    names(event.name, *event.metadata, *event.tags)
    if event.name != event.project:
        raise Refused
    world["projects"][event.project] = {
        "uid": event.project, "description": event.description, "metadata": event.metadata, "tags": event.tags,
        "created": event.time,
    }  # fmt: skip
    return event.project, True


def new_group(world, event):
    """Create a group in an existing project; an existing group stays unchanged."""
    if event.group in world["groups"]:
        return event.group, False
    names(event.name, event.project_id, *event.metadata, *event.tags)
    if event.project_id is not None and event.project_id not in world["projects"]:
        raise Refused
    if event.group != GROUPS.get((event.name, event.project_id)):
        raise Refused
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
        uid = world["outcomes"].get(event.trial, (None,))[0] if "~" in event.trial else event.trial
        subject = world["trials"].get(uid)
    if subject is None:
        raise Refused
    if event.request is None:
        if event.seq < 1 or re.fullmatch("[A-Za-z0-9_-]{1,64}", event.writer) is None:
            raise Refused
        mark = subject["writers"].get(event.writer, 0)
        if event.seq <= mark:
            return
        subject["lost_events"] = min(subject["lost_events"] + event.seq - mark - 1, 2**63 - 1)
        subject["writers"][event.writer] = event.seq
    if event.if_version is not None and event.if_version != subject["state_version"]:
        if event.request is not None:
            world["outcomes"][place(event)] = (subject["uid"], False, None)
        return
    world["answer"] = subject["uid"]
    draft = draft_of(subject)
    change(draft, event, kind)
    draft["state_version"] += kind not in UNCOUNTED
    subject.update(draft)
    if event.request is not None:
        world["outcomes"][place(event)] = (subject["uid"], True, None)


def draft_of(x):
    """Return a copy to change. Lists are copied without their items, which are never changed in place."""
    if isinstance(x, dict):
        return {key: draft_of(each) for key, each in x.items()}
    return list(x) if isinstance(x, list) else x


def change(draft, event, kind):
    """Change a draft of the subject; a refused event raises, and its draft is dropped."""
    time = event.time
    match kind:
        case "GroupMetadataSet":
            names(*event.values)
            draft["metadata"].update(event.values)
            return
        case "MetricsLogged":
            time = max(change_metrics(draft, event))
        case "ChronosFinished":
            time = max(change_chronos(draft, event))
        case "ChronoStarted":
            observe(draft["chronos"], event.name, event.aggregator, [])
            draft["open_chronos"][event.name] = draft["open_chronos"].get(event.name, 0) + 1
        case "TrialStarted":
            if event.attempt is None or join(draft, event):
                draft["status"] = ("Running", 101)
                draft["started"] = event.time if draft["started"] is None else draft["started"]
                draft["finished"] = None
                draft["starts"] += 1
        case "TrialFinished":
            if (ending := ending_of(draft, event)) is not None:
                end(draft, event, ending)
            add_error(draft, event)
        case "ArgumentsLogged":
            names(*event.values)
            draft["parameters"].update(event.values)
        case "TagsAdded":
            names(*event.values)
            draft["tags"].update(event.values)
        case "MetadataLogged":
            change_metadata(draft, event)
        case "StatusSet":
            names(event.status.name)
            draft["status"] = (event.status.name, STATUSES.get(event.status.name, event.status.code))
            add_error(draft, event)
        case "TrialUpdated":
            for each in event.updates:
                if (each.trial, each.writer, each.seq, each.if_version, each.request) != (
                    *(event.trial, event.writer, 0),
                    *(None, None),
                ):
                    raise Refused
                change(draft, each, type(each).__name__)
        case "TrialAttached":
            names(event.project_id, event.group_id)
            for key in ("project_id", "group_id"):
                if getattr(event, key) is not None:
                    draft[key] = getattr(event, key)
    draft["last_seen"] = max(draft["last_seen"], time)
    if event.writer in draft["participants"]:
        participant = draft["participants"][event.writer]
        participant["last_seen"] = max(participant["last_seen"], time)


def attempt_of(trial, writer):
    """Return the number of the attempt in which a writer takes part, or 0."""
    former = trial["former_participants"].get(writer)
    return former[0] if former else trial["participants"].get(writer, {"attempt": 0})["attempt"]


def join(draft, event):
    """Let a writer join an attempt; return whether the attempt is new."""
    sizes = [event.world_size if event.world_size is not None else 2048, event.rank if event.rank is not None else 0]
    names(event.attempt, event.host)
    if not 1 <= len(event.attempt.encode()) <= 256 or len(event.host.encode()) > 255:
        raise Refused
    if not 1 <= sizes[0] <= 2048 or not 0 <= sizes[1] < sizes[0]:
        raise Refused
    if event.resume_step is not None and not math.isfinite(event.resume_step):
        raise Refused
    if event.resumes is not None:
        names(event.resumes)
        if not 1 <= len(event.resumes.encode()) <= 256 or event.resumes == event.attempt:
            raise Refused
    keys = [each["key"] for each in draft["attempts"]]
    is_new = event.attempt not in keys
    keeps_place = is_new and event.resumes is not None and event.resumes not in keys
    number = len(keys) + 1 + keeps_place if is_new else keys.index(event.attempt) + 1
    comes_late = not is_new and all(
        attempt != number
        for attempt in (
            *[each["attempt"] for each in draft["participants"].values()],
            *[each[0] for each in draft["former_participants"].values()],
        )
    )
    is_latest = number >= len(keys)
    held = attempt_of(draft, event.writer)
    here, former = draft["participants"], draft["former_participants"]
    if held not in (0, number) or number > BOUNDS["attempts"]:
        raise Refused
    if not held:
        together = [each for each in here.values() if each["attempt"] == number]
        if re.fullmatch("[A-Za-z0-9_-]{1,64}", event.writer) is None or len(here) + len(former) >= BOUNDS["joins"]:
            raise Refused
        if is_latest and len(together) >= BOUNDS["participants"]:
            raise Refused
    is_full = len(here) >= BOUNDS["participants"]
    if event.writer not in here and not is_latest and (is_full or event.writer in former):
        former.setdefault(event.writer, [number, event.rank])
    else:
        if is_full and event.writer not in here:
            oldest = next(writer for writer, each in here.items() if each["attempt"] < number)
            former[oldest] = [here[oldest]["attempt"], here[oldest]["rank"]]
            del here[oldest]
        before = here.get(event.writer, {"joined": event.time, "last_seen": event.time})
        here[event.writer] = {
            "attempt": number, "rank": event.rank, "host": event.host, "joined": before["joined"],
            "last_seen": max(before["last_seen"], event.time), "status": "Running", "error": None,
        }  # fmt: skip
    given = {"resume_step": event.resume_step, "world_size": event.world_size}
    if keeps_place:
        draft["attempts"].append({"key": event.resumes, "started": event.time, "resume_step": None, "world_size": None})
    if is_new:
        draft["attempts"].append({"key": event.attempt, "started": event.time, **given})
    else:
        attempt = draft["attempts"][number - 1]
        if comes_late:
            attempt = attempt | {"started": event.time}
            draft["starts"] += 1
        draft["attempts"][number - 1] = attempt | {
            key: given[key] if attempt[key] is None else attempt[key] for key in given
        }
        if is_latest and event.rank is not None and draft["finished"] is not None:
            draft["status"], draft["finished"] = ("Running", 101), None
    return is_new


def ending_of(draft, event):
    """Note the end of a participant; return the status of the trial if it ended, else None."""
    ending = "Interrupted" if event.interrupted else "Completed" if event.error is None else "Exception"
    if event.writer in draft["former_participants"]:
        return None
    if event.writer not in draft["participants"]:
        return ending
    participant, latest = draft["participants"][event.writer], len(draft["attempts"])
    participant["status"] = ending
    parts = [event.error.type, event.error.message] if event.error else []
    participant["error"] = ": ".join(each for each in parts if each)[:256] if event.error else None
    if participant["attempt"] != latest or participant["rank"] is None:
        return None
    ranks = {}
    for each in draft["participants"].values():
        if each["attempt"] == latest and each["rank"] is not None:
            ranks[each["rank"]] = each["status"]
    if len(ranks) < (draft["attempts"][-1]["world_size"] or 0) or "Running" in ranks.values():
        return None
    return min(ranks.values(), key=["Exception", "Interrupted", "Completed"].index)


def end(draft, event, ending):
    """End a trial: set its status, and its runtime unless it has ended before."""
    if draft["finished"] is None:
        elapsed = event.elapsed
        if elapsed is None and draft["started"] is not None:
            elapsed = max(0.0, (event.time - draft["started"]) / 1_000_000)
        if elapsed is not None:
            draft["chronos"].setdefault("runtime", new_aggregator("stat", 0))
            observe(draft["chronos"], "runtime", None, [elapsed])
        draft["finished"] = event.time
    draft["status"] = (ending, STATUSES[ending])


def change_metrics(draft, event):
    """Add rows of metrics, which have one column per name and one step per row or none."""
    rows = len(event.times)
    steps = [each for each in (event.steps, event.float_steps, event.text_steps) if each]
    if not rows or not event.names or len(set(event.names)) < len(event.names) or len(steps) > 1:
        raise Refused
    if [len(each) for each in event.columns] != [rows] * len(event.names) or any(len(each) != rows for each in steps):
        raise Refused
    names(*event.text_steps)
    times = absolute(event)
    steps = steps[0] if steps else [None] * rows
    for name, column in zip(event.names, event.columns, strict=True):
        held = observe(draft["metrics"], name, event.aggregator, column)
        held["last_step"] = steps[-1]
        attempt = attempt_of(draft, event.writer)
        held["rows"][len(held["rows"]) - rows :] = [(x, step, attempt) for x, step in zip(column, steps, strict=True)]
    if plain_timeseries(event.aggregator):
        kind = "int" if event.steps else "float" if event.float_steps else "text" if event.text_steps else "none"
        for row, values in enumerate(zip(*event.columns, strict=True)):
            keep_row(draft, "metrics", event.names, kind, steps[row], times[row], event.writer, values)
    return times


def change_chronos(draft, event):
    """Add finished chronos, whose rows refer to names by index; the counts of a name are at most its rows."""
    rows, n = len(event.chronos), len(event.names)
    if not rows or not rows == len(event.times) == len(event.elapsed):
        raise Refused
    if not n == len(set(event.names)) == len(event.aggregators) == len(event.announced) == len(event.failed):
        raise Refused
    if any(i not in range(n) for i in event.chronos):
        raise Refused
    if any(count not in range(rows + 1) for count in (*event.announced, *event.failed)):
        raise Refused
    times = absolute(event)
    for i, name in enumerate(event.names):
        mine = [row for row in range(rows) if event.chronos[row] == i]
        observe(draft["chronos"], name, event.aggregators[i], [event.elapsed[row] for row in mine])
        if plain_timeseries(event.aggregators[i]):
            for row in mine:
                keep_row(draft, "chronos", [name], "none", None, times[row], event.writer, [event.elapsed[row]])
        still_open = draft["open_chronos"].pop(name, 0) - event.announced[i]
        if still_open > 0:
            draft["open_chronos"][name] = still_open
        if event.failed[i]:
            draft["failed_chronos"][name] = draft["failed_chronos"].get(name, 0) + event.failed[i]
    return times


def change_metadata(draft, event):
    """For each key, replace a plain value, or add the value to the key's aggregator, which is made if missing."""
    names(*event.values)
    new_aggregator(event.aggregator.kind, event.aggregator.argument)
    for key, x in event.values.items():
        held = draft["metadata"].get(key)
        if event.aggregator.kind == "value" and not is_aggregator(held):
            draft["metadata"][key] = x
            continue
        if not is_aggregator(held):
            held = draft["metadata"][key] = new_aggregator(event.aggregator.kind, event.aggregator.argument)
        number = isinstance(x, int | float)
        if held["kind"] in ("stat", "timeseries", "best") and not number:
            raise Refused
        held["seen"].append(x if held["kind"] == "ring" else float(x))
        held["rows"].append((x, None, 0))
    for key, x in event.values.items():
        if plain_timeseries(event.aggregator) and isinstance(x, int | float):
            keep_row(draft, "metadata", [key], "none", None, event.time, event.writer, [float(x)])


def absolute(event):
    """Return the times of the rows, each of which must be in the calendar."""
    times = [event.time + each for each in event.times]
    if max(map(abs, times)) > 60_000_000_000_000_000:
        raise Refused
    return times


def plain_timeseries(spec):
    """Return whether an aggregator is a time series; only then are rows kept in the history."""
    return (spec.kind, spec.argument) in (("timeseries", 0), ("best", 1), ("best", 2))


def new_aggregator(kind, argument):
    """Return an aggregator without observations."""
    allowed = {"value": None, "timeseries": None, "stat": (0, 4096), "ring": (1, 4096), "best": (1, 2)}
    if kind not in allowed or (allowed[kind] is not None and not allowed[kind][0] <= argument <= allowed[kind][1]):
        raise Refused
    return {"aggregator": True, "kind": kind, "argument": argument, "seen": [], "rows": [], "last_step": None}


def is_aggregator(x):
    """Return whether a value of metadata is an aggregator."""
    return isinstance(x, dict) and "aggregator" in x


def observe(held, name, spec, xs):
    """Add observations to the aggregator of a name; the first aggregator of a name stays."""
    if name not in held:
        names(name)
        held[name] = new_aggregator(spec.kind, spec.argument)
    held[name]["seen"].extend(xs)
    held[name]["rows"].extend((x, None, 0) for x in xs)
    return held[name]


def add_error(draft, event):
    """Keep an error: beginning of type and message, end of the traceback."""
    if event.error is not None:
        draft["errors"].append(
            (event.error.type[:256], event.error.message[:2048], event.error.traceback[-8192:], event.time)
        )  # fmt: skip


def keep_row(draft, section, columns, kind, step, time, writer, values):
    """Append a row to the history."""
    draft["history"].append((section, tuple(columns), kind, step, time, writer, tuple(values)))


def summary(aggregator, attempts):
    """Return the expected document of an aggregator of a trial with these attempts."""
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
        "skipped": seen[:skip],
        "last": seen[-1] if seen else None,
    }
    if kind in ("timeseries", "best"):
        found |= {"last_step": aggregator["last_step"]}
    if kind == "best":
        surviving = [row for row in aggregator["rows"] if not math.isnan(row[0]) and survives(row, attempts)]
        sign = {1: 1, 2: -1}[aggregator["argument"]]
        best = max(surviving, key=lambda row: sign * row[0], default=(None, None))  # the first of equal ones
        found |= {"argument": aggregator["argument"], "best": best[0], "best_step": best[1]}
    return found


def survives(row, attempts):
    """Return whether no attempt after that of a row's writer has rewound the row."""
    _, step, attempt = row
    later = [each["resume_step"] for each in attempts[attempt:] if each["resume_step"] is not None]
    return isinstance(step, str | None) or not any(step > bound for bound in later)


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
    """Return a form in which NaN equals NaN."""
    if isinstance(x, dict):
        return {key: comparable(each) for key, each in x.items()}
    if isinstance(x, list | tuple | array):
        return [comparable(each) for each in x]
    return "NaN" if isinstance(x, float) and math.isnan(x) else x


def expected(world):
    """Return the meaning of a log in the form that `reading` returns."""
    trials = {}
    for uid, trial in world["trials"].items():
        trials[uid] = {
            **trial,
            "metrics": {name: summary(each, trial["attempts"]) for name, each in trial["metrics"].items()},
            "chronos": {name: summary(each, trial["attempts"]) for name, each in trial["chronos"].items()},
            "metadata": {
                key: summary(x, trial["attempts"]) if is_aggregator(x) else x for key, x in trial["metadata"].items()
            },
            "errors": trial["errors"][-32:],
            "errors_dropped": max(0, len(trial["errors"]) - 32),
            "rows": len(trial["history"]),
        }
        if not trial["attempts"]:
            for key in ("attempts", "participants", "former_participants"):
                del trials[uid][key]
    return {
        "trials": trials,
        "groups": world["groups"],
        "projects": world["projects"],
        "outcomes": world["outcomes"],
        "dead": world["dead"],
    }


def reading(documents, dead_letters, capacity):
    """Return the content of documents, read with only bson and struct."""
    parsed = {name: {uid: bson.decode(each) for uid, each in given.items()} for name, given in documents.items()}
    trials = {}
    for uid, document in parsed["trials"].items():
        trial = dict(document)
        assert trial.pop("_id") == uid
        buckets = [each for each in parsed["series"].values() if each["trial"] == uid]
        trial.pop("size")
        assert not trial.get("participants", {}).keys() & trial.get("former_participants", {}).keys()
        trials[uid] = {
            **trial,
            "uid": uid,
            **{key: read_value(trial[key]) for key in ("parameters", "tags", "open_chronos", "failed_chronos")},
            **{key: {read_key(name): read_aggregator(each) for name, each in trial[key].items()} for key in
               ("metadata", "metrics", "chronos")},
            "status": trial["status"] and (trial["status"]["name"], trial["status"]["code"]),
            "errors": [tuple(each.values()) for each in trial["errors"]],
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
    """Return the user's key for a document's."""
    return "" if key == "%" else unquote(key)


def read_value(x):
    """Return the user's value for a document's."""
    if isinstance(x, dict):
        return {read_key(key): read_value(each) for key, each in x.items()}
    return [read_value(each) for each in x] if isinstance(x, list) else x


def read_aggregator(x):
    """Return a value, or the statistics of an aggregator."""
    if not isinstance(x, dict) or "%kind" not in x:
        return read_value(x)
    x = {"kind": x["%kind"], **x}
    statistics = [
        "kind",
        "argument",
        "count",
        "avg",
        "sd",
        "min",
        "max",
        "sum",
        "nan",
        "inf",
        "neginf",
        "skipped",
        "last",
    ]
    keys = {
        "value": ["kind", "last", "count"],
        "ring": ["kind", "argument", "values"],
        "stat": statistics,
        "timeseries": [*statistics, "last_step"],
        "best": [*statistics, "last_step", "best", "best_step"],
    }[x["kind"]]
    return {key: read_value(x[key]) for key in keys}


def read_history(buckets, capacity):
    """Return the rows of all buckets of a trial, in the order of the log."""
    rows = {}
    numbers: dict[str, list[int]] = {}
    for bucket in buckets:
        n, kind = bucket["rows"], bucket["step_type"]
        _, shape, last = bucket["_id"].split("/")
        numbers.setdefault(shape, []).append(bucket["number"])
        # A bucket of wide rows has fewer rows, so that it stays under 1 MiB; a text step may take 1,024 bytes.
        width = 8 * (len(bucket["names"]) + 1) + {"int": 8, "float": 8, "text": 1024, "none": 0}[kind]
        full = min(capacity, 2**20 // width)
        at = f"{bucket['_id']} holds {n} rows, {full} fill it"
        assert n < full if last == "open" else (n == full and last == str(bucket["number"])), at
        times = struct.unpack(f"<{n}q", bucket["times"])
        packed = {"int": "q", "float": "d"}.get(kind)
        steps = struct.unpack(f"<{n}{packed}", bucket["steps"]) if packed else list(bucket["steps"]) or [None] * n
        if packed and last != "open":
            largest = max((step for step in steps if not math.isnan(step)), default=math.nan)
            assert repr(bucket["max_step"]) == repr(largest + 0), at
        else:
            assert "max_step" not in bucket, at
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
