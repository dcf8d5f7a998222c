"""Random logs: several writers and trials, with all that goes wrong on the way."""

from __future__ import annotations

from hypothesis import strategies as st
from trialstream_schemas import events as e
from trialstream_schemas.aggregators import Lazy
from trialstream_schemas.structure import group_uid

HASHES = ["a" * 32, "b" * 32]
CREATORS = ["new-0", "new-1", "new-2"]
ADDRESSES = st.sampled_from(
    [f"{HASHES[0]}_0"] * 6
    + [f"{HASHES[0]}_1", f"{HASHES[1]}_0", f"{HASHES[0]}~new-0", f"{HASHES[1]}~new-1", f"{HASHES[0]}~none", "nowhere"]
)
NAMES = st.sampled_from(["loss"] * 4 + ["a.b", "$x", "", "%", "é", "runtime"])
BAD = "bad\0name"
FLOATS = st.sampled_from([0.5, -2.0, 3.25, 0.0, 1e6, float("nan"), float("inf"), float("-inf")])
PLAIN = st.sampled_from([None, True, 1, 2**40, -1, 1.5, "text", b"\0", [1, {"k.": None}], {"$": [], "": 2}])
VALUES = st.dictionaries(NAMES | st.sampled_from([BAD, "long" * 300]), PLAIN, min_size=1, max_size=3) | st.dictionaries(
    NAMES, PLAIN | st.integers(0, 5), min_size=1, max_size=3
)
LAZIES = st.sampled_from(
    [Lazy("timeseries")] * 4 + [Lazy("stat"), Lazy("stat", 2), Lazy("ring", 2), Lazy("value")]
    + [Lazy("timeseries", 1), Lazy("ring"), Lazy("stat", -1), Lazy("median")]
)  # fmt: skip
ERRORS = st.none() | st.builds(e.Error, st.sampled_from(["ValueError", ""]), st.just("m" * 2050), st.just("t" * 8195))
TIMES = st.integers(1_700_000_000_000_000, 1_700_000_000_000_100)


@st.composite
def metrics(draw, **given):
    """A frame of metrics; now and then one that does not fit together."""
    names = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
    rows = draw(st.integers(1, 6))
    column = st.lists(FLOATS, min_size=rows, max_size=rows)
    frame = {
        "names": names,
        "times": draw(st.lists(st.integers(0, 50), min_size=rows, max_size=rows)),
        "columns": [draw(column) for _ in names],
    }
    kinds = {
        "steps": st.integers(-5, 5),
        "float_steps": st.sampled_from([0.5, -1.0, float("nan")]),
        "text_steps": st.sampled_from(["one", "", "é"]),
    }
    kind = draw(st.sampled_from(["none", *kinds]))
    if kind != "none":
        frame[kind] = draw(st.lists(kinds[kind], min_size=rows, max_size=rows))
    spoil = draw(st.integers(0, 30))
    if spoil == 1:
        frame["columns"] = frame["columns"][1:]
    elif spoil == 2:
        frame["columns"] = [[*each, 1.0] for each in frame["columns"]]
    elif spoil == 3:
        frame |= {"steps": [1] * rows, "float_steps": [1.0] * rows}
    elif spoil == 4:
        frame |= {"steps": [1] * (rows + 1), "float_steps": [], "text_steps": []}
    elif spoil == 5:
        frame |= {"names": [names[0]] * 2, "columns": [frame["columns"][0]] * 2}
    elif spoil == 6:
        frame |= {"names": [*names[1:], BAD]}
    elif spoil == 7:
        frame |= {"text_steps": [BAD] * rows, "steps": [], "float_steps": []}
    elif spoil == 8:
        frame |= {"times": [], "columns": [[] for _ in names], "steps": [], "float_steps": [], "text_steps": []}
    elif spoil == 9:
        frame |= {"names": [], "columns": []}
    elif spoil == 10:
        frame["times"] = [2**62] * rows
    return e.MetricsLogged(aggregator=draw(LAZIES), **frame, **given)


@st.composite
def chronos(draw, **given):
    """A frame of finished chronos; now and then one that does not fit together."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    rows = draw(st.integers(1, 5))

    def each_of(strategy, n):
        return draw(st.lists(strategy, min_size=n, max_size=n))

    frame = {
        "names": names,
        "aggregators": each_of(LAZIES, len(names)),
        "announced": each_of(st.integers(0, 1), len(names)),
        "failed": each_of(st.integers(0, 1), len(names)),
        "chronos": each_of(st.integers(0, len(names) - 1), rows),
        "times": each_of(st.integers(0, 50), rows),
        "elapsed": each_of(FLOATS, rows),
    }
    spoil = draw(st.integers(0, 30))
    if spoil == 1:
        frame["elapsed"] = frame["elapsed"][1:]
    elif spoil == 2:
        frame["names"] = [*names, "more"]
    elif spoil == 3:
        frame["chronos"] = [len(names)] * rows
    elif spoil == 4:
        frame["chronos"] = [-1] * rows
    elif spoil == 5:
        frame |= {"chronos": [], "times": [], "elapsed": []}
    elif spoil == 6:
        frame["announced"] = [-1] * len(names)
    elif spoil == 7:
        frame["failed"] = [2**62] * len(names)
    elif spoil == 8:
        frame["times"] = [-(2**62)] * rows
    elif spoil == 9:
        frame |= {key: frame[key] * 2 for key in ("names", "aggregators", "announced", "failed")}
    return e.ChronosFinished(**frame, **given)


@st.composite
def updates(draw):
    """An event of a trial: addressed, with a writer, perhaps with a request and the version that it claims."""
    given = {
        "trial": draw(ADDRESSES),
        "writer": draw(st.sampled_from(["w1"] * 4 + ["w2", "w3"] + ["no writer"] * draw(st.integers(0, 1)))),
        "time": draw(TIMES),
        "if_version": draw(st.sampled_from([None] * 4 + [0, 1, 2, 3])),
        "request": draw(st.sampled_from([None] * 4 + ["up-0", "up-1", "up-2"])),
    }
    match draw(st.integers(0, 13)):
        case 0 | 1 | 2:
            return draw(metrics(**given))
        case 3 | 4:
            return draw(chronos(**given))
        case 5:
            return e.ChronoStarted(name=draw(NAMES | st.just(BAD)), aggregator=draw(LAZIES), **given)
        case 6:
            return e.TrialStarted(**given)
        case 7:
            elapsed = draw(st.none() | FLOATS)
            return e.TrialFinished(interrupted=draw(st.booleans()), elapsed=elapsed, error=draw(ERRORS), **given)
        case 8:
            return e.ArgumentsLogged(values=draw(VALUES), **given)
        case 9 | 10:
            return e.MetadataLogged(values=draw(VALUES), aggregator=draw(LAZIES), **given)
        case 11:
            return e.TagsAdded(values=draw(VALUES), **given)
        case 12:
            status = draw(st.sampled_from([("Suspended", 301), ("Completed", -1), ("Paused", 7), (BAD, 1)]))
            return e.StatusSet(status=e.StatusRecord(*status), error=draw(ERRORS), **given)
    ids = st.sampled_from([None, "p", "g", "q" * 2000])
    if draw(st.booleans()):
        return e.Heartbeat(**given)
    return e.TrialAttached(project_id=draw(ids), group_id=draw(ids), **given)


@st.composite
def creations(draw, requests=(*CREATORS, None)):
    """A trial is asked for."""
    request = draw(st.sampled_from(requests))
    return e.TrialCreated(
        trial=f"{draw(st.sampled_from([*HASHES, HASHES[0], 'no hash']))}~{request}",
        writer="w1",
        time=draw(TIMES),
        request=request,
        name=draw(st.sampled_from(["t", "t", BAD])),
        parameters=draw(VALUES),
        auto_increment=draw(st.booleans()),
        metadata=draw(VALUES),
        description="d",
        version=draw(st.sampled_from([None, "1", BAD])),
        project_id=draw(st.sampled_from([None, "p"])),
    )


@st.composite
def registry(draw):
    """An event of the registry."""
    given = {"writer": draw(st.sampled_from(["w1", "w2"])), "time": draw(TIMES)}
    request = draw(st.sampled_from([None, *(f"reg-{i}" for i in range(6))]))
    groups = [group_uid("g", None), group_uid("g", "p"), "no group"]
    match draw(st.integers(0, 6)):
        case 0:
            return e.LogCreated(log=draw(st.sampled_from(["l1", "l2"])), partitions=4, time=given["time"])
        case 1 | 2:
            name = draw(st.sampled_from(["p", "q"]))
            return e.ProjectCreated(project="p", name=name, tags=draw(VALUES), request=request, **given)
        case 3 | 4:
            name, project = draw(st.sampled_from([("g", None), ("g", "p"), ("h", None)]))
            uid = draw(st.sampled_from([group_uid("g", project), group_uid(name, project)]))
            return e.GroupCreated(
                group=uid, name=name, project_id=project, metadata=draw(VALUES), request=request, **given
            )
    version = draw(st.sampled_from([None, None, 0, 1]))
    return e.GroupMetadataSet(
        group=draw(st.sampled_from(groups)), values=draw(VALUES), if_version=version, request=request, **given
    )


FIRST = e.TrialCreated(
    trial=f"{HASHES[0]}~new-0", writer="w1", time=1_700_000_000_000_000, request="new-0", name="t",
    parameters={"lr": 0.1}, auto_increment=False,
)  # fmt: skip


@st.composite
def logs(draw, max_size=40):
    """A log: mostly what is well numbered and of one trial, with duplicates, gaps and reorderings in between."""
    steps = st.tuples(
        updates() | updates() | updates() | updates() | creations() | registry(),
        st.sampled_from([1] * 10 + [0, 0, -1, 2, 5, 2**62]),
    )
    log = [FIRST] if draw(st.integers(0, 4)) else []
    sent: dict[tuple[str, str], int] = {}
    length = draw(st.integers(0, max_size))
    for event, step in draw(st.lists(steps, min_size=length, max_size=length)):
        if isinstance(event, e.SubjectEvent) and event.request is None:
            key = (event.writer, event.subject)
            event.seq = min(sent.get(key, 0) + step, 2**63 - 1)
            sent[key] = max(sent.get(key, 0), event.seq)
        log.append(event)
    return log
