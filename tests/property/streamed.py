"""Logs in memory as sources of streams, and what a stream returns of a log, by the fold."""

from __future__ import annotations

from collections import defaultdict

from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route, partition_of
from trialstream.streaming.filters import Filter
from trialstream.streaming.rows import rows_of
from trialstream.streaming.stream import Stream
from trialstream_consumer.fold import Refused, State, fold, resolve
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.envelope import envelope_fault

REGISTRY = Route("registry", 0)


class ListLog:
    """A log of encoded events in lists, which hands out records in parts of given sizes, in turn."""

    trials_topic, registry_topic, place = "trials", "registry", "a list"

    def __init__(self, records, partitions, sizes=(4,)):
        self.schemas = SchemaStore()
        self._records = records
        self._partitions = partitions
        self._sizes = sizes
        self._turns = 0
        self._following = {}

    async def open(self):
        """Return the identity."""
        return e.LogCreated(time=0, log="list", partitions=self._partitions)

    async def begin(self, places):
        """Choose partitions."""
        self._following = dict(places)

    async def ends(self, **_):
        """Return the ends."""
        return {route: len(self._records[route]) for route in self._following}

    async def offsets_at(self, time):
        """Find the offsets of a time."""
        found = {
            route: [x for x, (at, _) in enumerate(self._records[route]) if at >= time] for route in self._following
        }
        return {route: each[0] for route, each in found.items() if each}

    async def fetch(self, routes, _seconds):
        """Return the next records."""
        found = {}
        for route in routes:
            self._turns += 1
            first = self._following[route]
            some = self._records[route][first : first + self._sizes[self._turns % len(self._sizes)]]
            if some:
                self._following[route] = end = first + len(some)
                times, values = zip(*some, strict=True)
                found[route] = Records(range(first, end), times, [None] * len(some), values, {})
        return found

    async def refresh(self):
        """Do nothing."""

    async def close(self):
        """Do nothing."""


def spread(events, partitions, encode):
    """Return the records of a log by partition: append time and value; every third millisecond repeats."""
    records = defaultdict(list)
    for i, each in enumerate(events):
        if isinstance(each, e.TrialEvent):
            route = Route("trials", partition_of(hash_of(each.trial).encode(), partitions))
        else:
            route = REGISTRY
        records[route].append((i - i % 3, encode(each)))
    return records


def streamed(records, partitions, sizes=(4,), *, since, until=None, rows="together", **conditions):
    """Return a stream over such a log."""
    given = dict.fromkeys(("project", "group", "trial", "kinds")) | conditions
    return Stream(
        ListLog(records, partitions, sizes),
        Filter(**given),
        since,
        until,
        follow=False,
        rows=rows,
        timeout=1.0,
    )


def taken(records, partitions, *, project=None, group=None, trial=None):
    """Return what a stream returns of a log, by the fold: route and offset, in any order over the partitions."""
    found, store = [], SchemaStore()
    wanted_uid = trial
    for route, each in records.items():
        state = State(projects=defaultdict(lambda: None), groups=defaultdict(lambda: None))
        for offset, (_, value) in enumerate(each):
            event = store.decode(value)
            if (place := _place(state, event, route, wanted_uid)) is None:
                continue
            if any((project in (None, p)) and (group in (None, g)) for p, g in place):
                found.append((route, offset))
    return found


def _place(state, event, route, trial):
    """Fold an event; return the projects and groups that it is about, before and after it, None if it is left out."""
    if isinstance(event, e.LogCreated) or envelope_fault(event):
        return None
    decided = event.request is not None and event.outcome_id in state.outcomes
    if isinstance(event, e.TrialEvent):
        return None if decided else _place_of_trial(state, event, trial)
    before = dict(getattr(state.groups.get(getattr(event, "group", "")), "writers", {}))
    refused = _refused(state, event)
    if decided or trial is not None:
        return None
    if isinstance(event, e.GroupMetadataSet):
        group = state.groups.get(event.group)
        if group is None or (event.request is None and group.writers == before):
            return None
        return [(group.project_id, event.group)]
    if refused or not state.outcomes[event.outcome_id].applied:
        return None
    return [(event.project, None)] if isinstance(event, e.ProjectCreated) else [(event.project_id, event.group)]


def _refused(state, event):
    try:
        fold(state, event)
    except Refused:
        return True
    return False


def _place_of_trial(state, event, wanted):
    if isinstance(event, e.TrialCreated):
        refused = _refused(state, event)
        if refused or not state.outcomes[event.outcome_id].applied:
            return None
        before, uid = [], state.outcomes[event.outcome_id].uid
    else:
        uid = resolve(state, event.trial)
        trial = state.trials.get(uid)
        before = [(trial.project_id, trial.group_id)] if trial else []
        marks = dict(trial.writers) if trial else {}
        refused = _refused(state, event)
        if trial is None or (event.request is None and state.trials[uid].writers == marks):
            return None
        if isinstance(event, e.TrialAttached) and refused:
            return None
        if isinstance(event, e.MetricsLogged) and rows_of(event) is None:
            return None
    if wanted is not None and wanted not in (uid, hash_of(uid)):
        return None
    trial = state.trials[uid]
    return [*before, (trial.project_id, trial.group_id)]
