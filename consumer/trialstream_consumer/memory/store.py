"""The store: a log in memory, and the documents that are folded from it.

Invariants:

- the documents contain every event of the log: an event is folded in the call that appends it;
- each event is decoded from its bytes and folded by the functions of the consumer, so it means what it means there;
- no object of the store leaves it: readers get copies.

Several protocols of one process share a store, each with its own I/O thread. A lock is held while events are folded and
while documents are read; only I/O threads and streams take it.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
import uuid
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from trialstream.event_log.topics import Route
from trialstream.reading.reader import Collection as CollectionName
from trialstream.reading.reader import Section
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.history import Bucket, Shape
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.storage.documents import group_to_document, project_to_document, trial_to_document
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.events import Event
from trialstream_schemas.wire.rows import apart
from trialstream_schemas.wire.schemas import SCHEMAS

from trialstream_consumer.fold import Changes, FoldFault, State, fold_groups, row_groups, single_groups

__all__ = ["Document", "MemoryStore"]

logger = logging.getLogger("trialstream")
Document = dict[str, Any]
T = TypeVar("T")

_TO_DOCUMENT: Mapping[CollectionName, Callable[[Any], Document]] = {
    "trials": trial_to_document,
    "groups": group_to_document,
    "projects": project_to_document,
}


class MemoryStore:
    """A log and its documents. Safe to use from any thread.

    Attributes:
        name: A name that no other store has.
        lock: Held while events are folded, and during each read; several reads under it are of one moment.
        listeners: Called, in the thread of the append, after events were folded.
        id: Id of the log.
        schemas: Schemas with which events were written.
        texts: These schemas: fingerprint → JSON.
    """

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex[:12]
        self.listeners: list[Callable[[], object]] = []
        self.lock = threading.RLock()
        self.id = secrets.token_hex(8)
        self.schemas = SchemaStore()
        self.texts: dict[bytes, bytes] = {**SCHEMAS}
        # All events in the order in which they were appended, and the offset after the last one of each partition.
        self._log: list[bytes] = []
        # When each event was appended, milliseconds since 1970 UTC, and the positions of those of each partition.
        self._appended: list[int] = []
        self._positions: defaultdict[Route, list[int]] = defaultdict(list)
        self._ends: Counter[Route] = Counter()
        # Positions of events on which the fold failed.
        self._poisoned: dict[int, str] = {}
        # The length of the log at the last change of each trial, the oldest change first.
        self._changed: dict[str, int] = {}
        self._clear()

    def _clear(self) -> None:
        # Holds all there is, so nothing is ever loaded into it.
        self._state = State()
        # The documents that were read since they changed, by uid.
        self._documents: dict[CollectionName, dict[str, Document]] = {name: {} for name in _TO_DOCUMENT}
        # The full buckets, and the shapes, of each trial.
        self._filled: defaultdict[str, list[Bucket]] = defaultdict(list)
        self._shapes: defaultdict[str, set[Shape]] = defaultdict(set)

    # --- The log

    def add_schemas(self, texts: Iterable[bytes]) -> None:
        """Add schemas with which events were written, JSON."""
        with self.lock:
            for text in texts:
                self.texts[self.schemas.add(text)] = text

    def append(self, route: Route, records: Sequence[bytes], appended: int | None = None) -> tuple[int, list[str]]:
        """Append events to a partition, and fold them.

        Args:
            route: The partition.
            records: The events in single-object encoding.
            appended: When they were appended, milliseconds since 1970 UTC; None for now.

        Returns:
            The offset after the last of them, and the reasons why events became dead letters.
        """
        with self.lock:
            first = len(self._log)
            self._log += records
            self._appended += [time.time_ns() // 1_000_000 if appended is None else appended] * len(records)
            self._positions[route] += range(first, len(self._log))
            self._ends[route] += len(records)
            end = self._ends[route]
            reasons = self._fold(first)
        for listener in tuple(self.listeners):
            listener()
        return end, reasons

    def records(self, route: Route, offset: int, most: int) -> list[tuple[int, bytes]]:
        """Return the append times and the events of a partition from an offset on, at most so many."""
        with self.lock:
            positions = self._positions[route][offset : offset + most]
            return [(self._appended[each], self._log[each]) for each in positions]

    def offset_at(self, route: Route, time: int) -> int:
        """Return the offset of the first event of a partition that was appended at a time or later, or of the end."""
        with self.lock:
            return bisect_left(self._positions[route], time, key=self._appended.__getitem__)

    def ends(self) -> dict[Route, int]:
        """Return the offset after the last event of each partition that has events."""
        with self.lock:
            return dict(self._ends)

    # --- Under the lock

    def _fold(self, first: int) -> list[str]:
        """Fold the events from a position on, and return the reasons of those that became dead letters.

        After a fault of the fold, the whole log is folded again, one by one, without the event that it failed on.
        """
        appended, singly = first, False
        while True:
            decoded = [
                self._poisoned.get(first + i)
                or (event if isinstance(event, SchemaError) else envelope_fault(event))
                or event
                for i, event in enumerate(apart(self.schemas.decode_all(self._log[first:])))
            ]
            events: list[Event | None] = [None if isinstance(each, (str, SchemaError)) else each for each in decoded]
            try:
                refused = fold_groups(self._state, events, (single_groups if singly else row_groups)(events))
            except FoldFault as fault:
                if len(fault.group) == 1:
                    logger.exception("trialstream lost an event that cannot be folded; please report this")
                    self._poisoned[first + fault.group[0]] = str(fault)
                self._clear()
                first, singly = 0, True
                continue
            reasons = {i: str(each) for i, each in enumerate(decoded) if events[i] is None} | dict(refused)
            self._note_changes()
            return [reasons[i] for i in sorted(reasons) if first + i >= appended]

    def _note_changes(self) -> None:
        changes, self._state.changes = self._state.changes, Changes()
        for name, uids in (("trials", changes.trials), ("groups", changes.groups), ("projects", changes.projects)):
            for uid in uids:
                self._documents[name].pop(uid, None)  # type: ignore[index]  # the names of collections
        for uid in changes.trials:
            self._changed.pop(uid, None)
            self._changed[uid] = len(self._log)
        for bucket in changes.filled:
            self._filled[bucket.trial].append(bucket)
        for uid, shape in changes.buckets:
            self._shapes[uid].add(shape)

    # --- The documents

    def changed(self, since: int) -> tuple[list[str], int]:
        """Return the uids of trials that have changed, the oldest change first, and the length of the log.

        Args:
            since: A length of the log: changes by later events count.
        """
        with self.lock:
            later = itertools.takewhile(lambda uid: self._changed[uid] > since, reversed(self._changed))
            return list(later)[::-1], len(self._log)

    def read(self, collection: CollectionName, find: Callable[[Collection[Document]], T]) -> T:
        """Call a function with the documents of a collection; nothing is folded meanwhile.

        Args:
            collection: The collection.
            find: The function; it changes no document, and returns copies only.

        Returns:
            What the function returns.
        """
        with self.lock:
            return find(self._current(collection))

    def _current(self, collection: CollectionName) -> Collection[Document]:
        known = self._documents[collection]
        found: Mapping[str, Any] = getattr(self._state, collection)
        for uid, each in found.items():
            if each is not None and uid not in known:
                known[uid] = _TO_DOCUMENT[collection](each)
        return known.values()

    def buckets(self, uids: Iterable[str], section: Section, names: Sequence[str]) -> dict[str, list[Bucket]]:
        """Return copies of the buckets of some trials: see `Reader.histories`."""
        found: dict[str, list[Bucket]] = {}
        with self.lock:
            for uid in set(uids):
                opened = [(self._state.buckets[uid, shape], False) for shape in self._shapes.get(uid, ())]
                for bucket, is_full in [*((each, True) for each in self._filled.get(uid, ())), *opened]:
                    assert bucket is not None  # a shape is noted when its bucket was written
                    kept = [name for name in bucket.shape.names if not names or name in names]
                    if bucket.shape.section == section and kept:
                        document = bucket.to_document(full=is_full)
                        found.setdefault(uid, []).append(Bucket.from_document(document | {"names": kept}))
        return found

    def outcome(self, id_: str) -> tuple[Outcome | None, Document | None]:
        """Return the outcome with an id, if there is one, and the document of the trial that it was applied to."""
        with self.lock:
            outcome = self._state.outcomes.get(id_)
            trial = self._state.trials.get(outcome.uid or "") if outcome is not None and outcome.applied else None
            return outcome, None if trial is None else trial_to_document(trial)
