"""Scans of partitions: from the records of a partition, in their order, to the events that a stream returns.

A scan begins at the first record of the partition, because the decisions of the log begin there; that of a trial, at
its creation, if the time is known. Before the place where the stream begins, and of events that the filter leaves out,
only the heads are read; creations are decoded.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.events import Event, SubjectEvent, TrialAttached, TrialCreated, TrialEvent
from trialstream_schemas.wire.heads import KINDS, PREFIX_BYTES, known_heads, read_head, subject_bytes

from trialstream.event_log.notes import Note
from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route, partition_of
from trialstream.streaming.decisions import Left, Mark, Place, RegistryDecisions, TrialDecisions, TrialState, attach
from trialstream.streaming.filters import Filter

__all__ = ["RegistryScan", "Scan", "Taken", "TrialScan"]

# Entries of a cache of 300 bytes each.
_MAX_HEADS = 16_384


class Taken(NamedTuple):
    """Events that the stream returns once they are decoded, in columns.

    Attributes:
        positions: The positions of their records.
        places: Where each belongs.
        writers: The writer of each.
        events: Those that are decoded already, by index.
    """

    positions: list[int]
    places: list[Place]
    writers: list[str]
    events: dict[int, SubjectEvent]

    def add(self, position: int, place: Place, writer: str, event: SubjectEvent | None) -> None:
        """Add an event; None if it is not decoded yet."""
        if event is not None:
            self.events[len(self.positions)] = event
        self.positions.append(position)
        self.places.append(place)
        self.writers.append(writer)


_Decided: TypeAlias = tuple[Place, str, SubjectEvent | None] | Left | None
"""Place, writer, and the event if it is decoded; or why it is left out; None for no event, and for one not wanted."""


class Scan(typing.Protocol):
    """Scans one partition.

    Attributes:
        skipped: Number of records that were left out because they are dead letters of the fold, as far as that can be
            seen without folding.
    """

    skipped: int

    def scan(self, records: Records, start: int) -> Taken:
        """Take the events of records.

        Args:
            records: The next records of the partition.
            start: Offset of the first event that is returned.

        Returns:
            Those that meet the conditions, in the order of the records.
        """
        ...


class _Deciding:
    def __init__(self, schemas: SchemaStore) -> None:
        self.skipped = 0
        self._schemas = schemas

    def _decoded(self, value: bytes) -> Event | None:
        try:
            return self._schemas.decode(value)
        except SchemaError:
            return None

    def _add(self, taken: Taken, position: int, decided: _Decided) -> None:
        """Add an event if it is taken."""
        if isinstance(decided, tuple):
            taken.add(position, *decided)
        elif decided is Left.REFUSED:
            self.skipped += 1


class TrialScan(_Deciding):
    """Scans a partition of the trials topic; see `Scan`.

    Args:
        route: The partition.
        partitions: Number of partitions.
        conditions: The filter.
        schemas: Schemas of the log.
    """

    def __init__(self, route: Route, partitions: int, conditions: Filter, schemas: SchemaStore) -> None:
        super().__init__(schemas)
        self._route = route
        self._partitions = partitions
        self._filter = conditions
        self._hash = None if conditions.hash is None else conditions.hash.encode()
        self._decisions = TrialDecisions()
        # Whether events are wanted whose head is enough, by their first bytes.
        self._wanted = {
            prefix: conditions.wants_kind(kind)
            for prefix, kind in KINDS.items()
            if issubclass(kind, TrialEvent) and kind not in (TrialCreated, TrialAttached)
        }
        # Bytes of kind, trial and writer → the writer's mark, the trial, the writer, and whether the kind is wanted.
        # What an address means never changes once it means something, and mark and trial are those of the decisions.
        self._heads: dict[bytes, tuple[Mark, TrialState, str, bool]] = {}

    def scan(self, records: Records, start: int) -> Taken:
        """See `Scan`."""
        taken = Taken([], [], [], {})
        add_position, add_place, add_writer = taken.positions.append, taken.places.append, taken.writers.append
        first, values = records.position_of(start), records.values
        positions: Sequence[int] = range(len(values))
        if (hash_ := self._hash) is not None:
            kinds = self._wanted
            positions = [
                i for i, value in enumerate(values) if value[:PREFIX_BYTES] not in kinds or _is_of(value, hash_)
            ]
            values = [values[i] for i in positions]
        for position, value, head in zip(positions, values, known_heads(values, self._heads), strict=True):
            # Nearly all events are the next ones of a known writer.
            if head is not None and head[1] > (mark := head[0][0]).seq:
                (_, trial, writer, is_wanted), mark.seq = head
                if is_wanted and trial.wanted and position >= first:
                    add_position(position)
                    add_place(trial.place)
                    add_writer(writer)
            else:
                decided = self._decide(value, records.notes.get(position))
                if position >= first:
                    self._add(taken, position, decided)
        return taken

    def _decide(self, value: bytes, note: Note | None) -> _Decided:
        """Decide any record."""
        if note is not None:
            return None if note.reason is None else Left.REFUSED
        is_wanted = self._wanted.get(value[:PREFIX_BYTES])
        if is_wanted is None:
            return self._decide_decoded(self._decoded(value))
        try:
            address, writer, seq, request = read_head(value)
        except SchemaError:
            return Left.REFUSED
        trial = self._decisions.take(address, writer, seq, request)
        if isinstance(trial, Left):
            return trial
        if request is None and (key := subject_bytes(value)) is not None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            self._heads[key] = trial.marks[writer], trial, writer, is_wanted
        return (trial.place, writer, None) if is_wanted and trial.wanted else None

    def _decide_decoded(self, event: Event | None) -> _Decided:
        """Decide an event of any kind."""
        if not isinstance(event, TrialEvent) or envelope_fault(event):
            return Left.REFUSED
        if self._filter.hash is not None and event.hash != self._filter.hash:
            return None
        before = False
        trial: TrialState | Left
        if isinstance(event, TrialCreated):
            if partition_of(event.hash.encode(), self._partitions) != self._route.partition:
                return Left.REFUSED
            trial = self._decisions.create(event)
        else:
            trial = self._decisions.take(event.trial, event.writer, event.seq, event.request)
        if isinstance(trial, Left):
            return trial
        if isinstance(event, TrialAttached):
            before = trial.wanted
            # A claim, which no version makes, may have lost.
            if event.if_version is not None or not attach(trial, event):
                return Left.REFUSED
        if isinstance(event, TrialCreated | TrialAttached):
            trial.wanted = self._filter.wants_trial(trial, self._decisions)
        if not (before or trial.wanted) or not self._filter.wants_kind(type(event)):
            return None
        return trial.place, event.writer, event


def _is_of(value: bytes, hash_: bytes) -> bool:
    """Whether the address at the beginning of an event has a hash."""
    at = PREFIX_BYTES + (2 if value[PREFIX_BYTES : PREFIX_BYTES + 1] >= b"\x80" else 1)
    return value.startswith(hash_, at)


class RegistryScan(_Deciding):
    """Scans the registry; see `Scan`.

    Args:
        conditions: The filter.
        schemas: Schemas of the log.
    """

    def __init__(self, conditions: Filter, schemas: SchemaStore) -> None:
        super().__init__(schemas)
        self._filter = conditions
        self._decisions = RegistryDecisions()

    def scan(self, records: Records, start: int) -> Taken:
        """See `Scan`."""
        taken = Taken([], [], [], {})
        first = records.position_of(start)
        for position, value in enumerate(records.values):
            decided = self._decide(value, records.notes.get(position))
            if position >= first:
                self._add(taken, position, decided)
        return taken

    def _decide(self, value: bytes, note: Note | None) -> _Decided:
        if note is not None:
            return None if note.reason is None else Left.REFUSED
        event = self._decoded(value)
        if not isinstance(event, SubjectEvent):
            return Left.REFUSED if event is None else None  # None for the identity of the log
        if isinstance(event, TrialEvent):
            return Left.REFUSED
        place = self._decisions.take(event)
        if isinstance(place, Left):
            return place
        _, project, group = place
        is_wanted = self._filter.wants(project, group) and self._filter.wants_kind(type(event))
        return (place, event.writer, event) if is_wanted else None
