"""Random logs of several writers and trials, with duplicates, gaps, reorderings and invalid events.

Each event, or burst of rows, is made from one integer, its seed: hypothesis draws lists of integers, which is fast, and
shrinks a log by leaving seeds out.
"""

from __future__ import annotations

import copy
from random import Random

from hypothesis import strategies as st
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.identity import group_uid
from trialstream_schemas.wire import events as e

HASHES = ["a" * 32, "b" * 32]
TRIAL = f"{HASHES[0]}_0"
ADDRESSES = [TRIAL] * 24 + [f"{HASHES[0]}~new-0"] * 4 + [
    f"{HASHES[0]}_1", f"{HASHES[0]}_1", f"{HASHES[1]}_0", f"{HASHES[1]}_0", f"{HASHES[1]}~new-1", f"{HASHES[0]}~none",
    "nowhere",
]  # fmt: skip
NAMES = ["loss", "a.b", "$x", "", "%", "é", "runtime"]
BAD = ["bad\0name", "too long" * 150]
FLOATS = [0.5, -2.0, 3.25, 0.0, 1e6, 1e6 + 1, float("nan"), float("inf"), float("-inf")]
PLAIN = [None, True, 1, 2, 2**40, -1, 1.5, "text", b"\0", [1, {"k.": None}], {"$": [], "": 2}]
KNOWN = [
    AggregatorSpec("timeseries"),
    AggregatorSpec("stat"),
    AggregatorSpec("stat", 2),
    AggregatorSpec("ring", 2),
    AggregatorSpec("value"),
    AggregatorSpec("best", 1),
    AggregatorSpec("best", 2),
]
UNKNOWN = [
    AggregatorSpec("timeseries", 1),
    AggregatorSpec("ring"),
    AggregatorSpec("stat", -1),
    AggregatorSpec("stat", 4097),
    AggregatorSpec("best"),
    AggregatorSpec("best", 3),
    AggregatorSpec("median"),
]
START = 1_700_000_000_000_000


class Dice(Random):
    """Random choices for the content of logs."""

    def once_in(self, n):
        """Return True once in n times."""
        return self.randrange(n) == 0

    def some(self, these, n):
        """Return several choices, with repetitions."""
        return [self.choice(these) for _ in range(n)]

    def name(self):
        """Return a name: mostly one of two, seldom an invalid one."""
        return (
            self.choice(BAD) if self.once_in(40) else self.choice(NAMES[:2]) if self.once_in(2) else self.choice(NAMES)
        )

    def names(self, most):
        """Return distinct valid names."""
        return list(dict.fromkeys(self.some(NAMES, self.randint(1, most))))

    def spec(self):
        """Return an aggregator: mostly a time series, seldom an unknown one."""
        if self.once_in(30):
            return self.choice(UNKNOWN)
        return KNOWN[0] if self.once_in(2) else self.choice(KNOWN)

    def values(self, *, numbers=False):
        """Return values by key."""
        plain = [1, 2.5, True, 7] if numbers else PLAIN
        return {self.name(): self.choice(plain) for _ in range(self.randint(1, 3))}

    def error(self):
        """Return an error with texts longer than the limits, or none."""
        kind = self.choice(["ValueError", "E" * 300, ""])
        return None if self.once_in(2) else e.Error(kind, "m" * 2049 + "!", "T" + "t" * 8192)

    def status(self):
        """Return a status, one in four of which has an invalid name."""
        return e.StatusRecord(*self.choice([("Suspended", 301), ("Completed", -1), ("Paused", 2**40), (BAD[0], 1)]))

    def time(self):
        """Return a time; the clocks of writers differ."""
        return START + self.randrange(1000)


def metrics(dice, given):
    """Return a frame of metrics; one in five is inconsistent."""
    names, rows = dice.names(2), dice.randint(1, 7)
    frame = {
        "names": names,
        "times": [dice.randint(-5, 50) for _ in range(rows)],
        "columns": [dice.some(FLOATS, rows) for _ in names],
    }
    kinds = {"steps": [1, 2, -(2**62), 7], "float_steps": [0.5, -1.0, float("nan")], "text_steps": ["one", "", "é"]}
    if kind := dice.choice([None, *kinds]):
        frame[kind] = dice.some(kinds[kind], rows)
    no_steps = {"steps": [], "float_steps": [], "text_steps": []}
    if dice.once_in(5):
        frame |= dice.choice(
            [
                {"columns": frame["columns"][1:]},
                {"columns": [[*each, 1.0] for each in frame["columns"]]},
                no_steps | {"steps": [1] * rows, "float_steps": [1.0] * rows},
                no_steps | {"steps": [1] * (rows + 1)},
                {"names": [names[0]] * 2, "columns": [frame["columns"][0]] * 2},
                {"names": [*names[1:], BAD[0]]},
                no_steps | {"text_steps": ["one"] * (rows - 1) + [BAD[0]]},
                no_steps | {"times": [], "columns": [[] for _ in names]},
                {"names": [], "columns": []},
                {"times": [0] * (rows - 1) + [2**62]},
                {"times": [-(2**62)] + [0] * (rows - 1)},
            ]
        )
    return e.MetricsLogged(aggregator=dice.spec(), **frame, **given)


def chronos(dice, given):
    """Return a frame of finished chronos; one in five is inconsistent."""
    names, rows = dice.names(3), dice.randint(1, 7)
    n = len(names)
    frame = {
        "names": names,
        "aggregators": [dice.spec() for _ in names],
        "announced": dice.some([0, 0, 1], n),
        "failed": dice.some([0, 0, 1], n),
        "chronos": dice.some(range(n), rows),
        "times": [dice.randint(-5, 50) for _ in range(rows)],
        "elapsed": dice.some(FLOATS, rows),
    }
    if dice.once_in(5):
        frame |= dice.choice(
            [
                {"elapsed": frame["elapsed"][1:]},
                {"times": frame["times"][1:]},
                {"names": [*names, "more"]},
                {"names": [*names[1:], BAD[0]]},
                {"chronos": [n] * rows},
                {"chronos": [-1] * rows},
                {"chronos": [], "times": [], "elapsed": []},
                {"announced": [-1] * n},
                {"failed": [2**62] * n},
                {"times": [-(2**62)] * rows},
                {key: frame[key] * 2 for key in ("names", "aggregators", "announced", "failed")},
            ]
        )
    return e.ChronosFinished(**frame, **given)


def update(dice):
    """Return an update of a trial, sometimes with a request or a claimed version."""
    given = {
        "trial": dice.choice(ADDRESSES),
        "writer": "no writer" if dice.once_in(50) else dice.choice(["w1", "w1", "w1", "w2", "w2", "w3", "w4", "w5"]),
        "time": dice.time(),
        "if_version": dice.randrange(6) if dice.once_in(5) else None,
        "request": f"up-{dice.randrange(8)}" if dice.once_in(4) else None,
    }
    return several(dice, given) if dice.once_in(9) else one(dice, dice.choice([*range(17), 7, 7, 8]), given)


def several(dice, given):
    """Return several updates in one event; one in fifteen has an update of another trial, writer or request."""
    updates = []
    for kind in dice.some([0, 1, 7, 8, 9, 10, 11, 13, 14], dice.randint(0, 4)):
        envelope = {"trial": given["trial"], "writer": given["writer"], "time": dice.time()}
        if dice.once_in(15 * 2):
            envelope |= dice.choice(
                [{"trial": "other"}, {"writer": "w9"}, {"request": "r"}, {"seq": 1}, {"if_version": 0}]
            )
        updates.append(one(dice, kind, envelope))
    return e.TrialUpdated(updates=updates, **given)


def one(dice, kind, given):
    """Return one update of a kind."""
    match kind:
        case 0 | 1 | 2 | 3:
            return metrics(dice, given)
        case 4 | 5:
            return chronos(dice, given)
        case 6:
            return e.ChronoStarted(name=dice.name(), aggregator=dice.spec(), **given)
        case 7:
            return e.TrialStarted(**({} if dice.once_in(3) else attempt(dice)), **given)
        case 8:
            elapsed = dice.choice([None, None, *FLOATS])
            return e.TrialFinished(interrupted=dice.once_in(3), elapsed=elapsed, error=dice.error(), **given)
        case 9:
            return e.ArgumentsLogged(values=dice.values(), **given)
        case 10 | 11 | 12:
            return e.MetadataLogged(values=dice.values(numbers=not dice.once_in(3)), aggregator=dice.spec(), **given)
        case 13:
            return e.TagsAdded(values=dice.values(), **given)
        case 14:
            return e.StatusSet(status=dice.status(), error=dice.error(), **given)
        case 15:
            project_id, group_id = (dice.choice(BAD) if dice.once_in(9) else dice.choice([None, each]) for each in "pg")
            return e.TrialAttached(project_id=project_id, group_id=group_id, **given)
    return e.Heartbeat(**given)


def attempt(dice):
    """Return the fields of a start that names an attempt; one in ten is invalid."""
    world_size = dice.choice([None, 1, 2, 2])
    fields = {
        "attempt": dice.choice(["k1", "k2", "k3", "k4"]),
        "rank": None if dice.once_in(5) else dice.randrange(world_size or 2),
        "world_size": world_size,
        "host": dice.choice(["", "node é"]),
        "resume_step": dice.choice([None, 0, 1, 1.5, 5, -(2**62), 2**53 + 1, 1e300]),
        "resumes": None if dice.once_in(2) else dice.choice(["k0", "k1", "k2", "k3"]),
    }
    if fields["resumes"] == fields["attempt"]:
        fields["resumes"] = "k5"
    if dice.once_in(10):
        fields |= dice.choice(
            [
                {"attempt": dice.choice(["", BAD[0], "k" * 257])},
                {"rank": -1},
                {"rank": 2, "world_size": 2},
                {"rank": 2048, "world_size": None},
                {"world_size": 0, "rank": None},
                {"world_size": 2049},
                {"host": "h" * 256},
                {"resumes": dice.choice(["", BAD[0], "k" * 257, fields["attempt"]])},
                {"resume_step": float("nan")},
                {"resume_step": float("-inf")},
            ]
        )
    return fields


def burst(dice):
    """Return rows logged one by one, of one trial or of two in turn: frames of one row; one in eight is different."""
    trials = [TRIAL, dice.choice(ADDRESSES)][: dice.randint(1, 2)]
    names, aggregator, has_steps = dice.names(2), dice.spec(), not dice.once_in(4)
    rows = []
    for i in range(dice.randint(2, 12)):
        row = e.MetricsLogged(
            trial=trials[i % len(trials)],
            writer="w1",
            time=dice.time(),
            names=names,
            aggregator=aggregator,
            times=[dice.randint(-5, 50)],
            steps=[dice.randrange(9)] if has_steps else [],
            columns=[dice.some(FLOATS[:6], 1) for _ in names],
        )
        if dice.once_in(8):
            odd = [
                {"writer": "w2"},
                {"steps": [], "float_steps": [0.5]},
                {"steps": [], "text_steps": ["one"]},
                {"steps": [1, 2]},
                {"if_version": dice.randrange(6)},
                {"request": f"up-{dice.randrange(8)}"},
                {"times": [2**62]},
                {"columns": [[1.0, 2.0] for _ in names]},
                {"columns": []},
                {"columns": [[dice.choice(FLOATS)] for _ in names]},
                {"times": [0, 1], "steps": [1, 2], "columns": [[1.0, 2.0] for _ in names]},
                {"names": [names[0]] * 2, "columns": [[1.0], [2.0]]},
            ]
            for name, x in dice.choice(odd).items():
                setattr(row, name, x)
        rows.append(row)
    return rows


def creation(dice):
    """Return the creation of a trial."""
    request = None if dice.once_in(10) else f"new-{dice.randrange(4)}"
    return e.TrialCreated(
        trial=f"{'no hash' if dice.once_in(10) else dice.choice(HASHES)}~{request}",
        writer="w1",
        time=dice.time(),
        request=request,
        name=BAD[0] if dice.once_in(10) else "t",
        parameters=dice.values(),
        auto_increment=dice.once_in(2),
        metadata=dice.values(),
        tags=dice.values(),
        description="d",
        version=dice.choice([None, "1"]),
        project_id=BAD[1] if dice.once_in(10) else dice.choice([None, "p"]),
        group_id=dice.choice([None, "g"]),
        status=None if dice.once_in(2) else dice.status(),
    )


def registry(dice):
    """Return an event of the registry."""
    given = {"writer": dice.choice(["w1", "w2"]), "time": dice.time()}
    request = None if dice.once_in(8) else f"reg-{dice.randrange(12)}"
    match dice.randrange(9):
        case 0:
            return e.LogCreated(log=dice.choice(["l1", "l2"]), partitions=4, time=given["time"])
        case 1 | 2:
            name = "q" if dice.once_in(5) else "p"
            return e.ProjectCreated(project="p", name=name, tags=dice.values(), request=request, **given)
        case 3 | 4 | 5:
            name, project = dice.choice([("g", None), ("g", "p"), ("h", None)])
            uid = group_uid("g" if dice.once_in(5) else name, project)
            return e.GroupCreated(
                group=uid, name=name, project_id=project, metadata=dice.values(), request=request, **given
            )
    group = "no group" if dice.once_in(10) else group_uid("g", dice.choice([None, "p"]))
    version = dice.choice([None, None, 0, 1])
    return e.GroupMetadataSet(group=group, values=dice.values(), if_version=version, request=request, **given)


def some_events(dice):
    """Return an event or a burst; mostly an update of a trial."""
    chance = dice.randrange(20)
    if chance > 17:
        return burst(dice)
    return [creation(dice) if chance == 0 else registry(dice) if chance < 4 else update(dice)]


FIRST = e.TrialCreated(
    trial=f"{HASHES[0]}~new-0", writer="w1", time=START, request="new-0", name="t", parameters={"lr": 0.1},
    auto_increment=False,
)  # fmt: skip


def log_of(seeds, *, begun):
    """Return the log of these seeds: mostly numbered in order, with some duplicates, gaps and reorderings."""
    log: list[e.Event] = [copy.deepcopy(FIRST)] if begun else []
    sent: dict[tuple[str, str], int] = {}
    for seed in seeds:
        dice = Dice(seed)
        events = some_events(dice)
        for event in events:
            if isinstance(event, e.SubjectEvent) and event.request is None:
                key = (event.writer, event.subject)
                step = dice.choice([-1, 0, 2, 5, 2**62]) if dice.once_in(5 * len(events)) else 1
                event.seq = min(sent.get(key, 0) + step, 2**63 - 1)
                sent[key] = max(sent.get(key, 0), event.seq % 2**62)
        log += events
    return log


def logs(max_size=100):
    """Return a strategy for logs of at most `max_size` events and bursts."""
    lengths = st.integers(0, max_size)
    seeds = lengths.flatmap(lambda n: st.lists(st.integers(0, 2**32), min_size=n // 2, max_size=n))
    return st.builds(log_of, seeds, begun=st.integers(0, 4).map(bool))
