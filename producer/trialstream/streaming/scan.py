"""Scans of partitions: from the records of a partition, in their order, to the events that a stream returns.

A scan begins at the first record of the partition, because the decisions of the log begin there; that of a trial, at
its creation, if the time is known. Before the place where the stream begins, and of events that the filter leaves out,
only the heads are read; creations are decoded.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import HEADER_BYTES, MAGIC, SchemaStore
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.events import Event, MetricsLogged, SubjectEvent, TrialAttached, TrialCreated, TrialEvent
from trialstream_schemas.wire.heads import KINDS, PREFIX_BYTES, read_head
from trialstream_schemas.wire.long_frames import LongFrame, check_long_frame
from trialstream_schemas.wire.rows import RowRun
from trialstream_schemas.wire.schemas import FINGERPRINTS

from trialstream.event_log.notes import Note
from trialstream.event_log.topics import Route, partition_of
from trialstream.streaming.decisions import Left, RegistryDecisions, TrialDecisions, TrialState, attach
from trialstream.streaming.filters import Filter
from trialstream.streaming.items import LogEvent, StreamEvent
from trialstream.streaming.rows import Rows, rows_of, rows_of_run
from trialstream.streaming.source import LogRecord

__all__ = ["RegistryScan", "Scan", "Taken", "TrialScan", "decoded"]

# Fewer bytes are decoded faster together with others.
_LONG_BYTES = 512
_FRAME_PREFIX = MAGIC + FINGERPRINTS[MetricsLogged]


Taken: TypeAlias = tuple[LogRecord, str | None, str | None, str | None, SubjectEvent | None]
"""An event that the stream returns once it is decoded: its record; the uids of its trial, project and group; and the
event, if it is decoded already."""


class Scan(typing.Protocol):
    """Scans one partition.

    Attributes:
        skipped: Number of records that were left out because they are dead letters of the fold, as far as that can be
            seen without folding.
    """

    skipped: int

    def scan(self, records: Sequence[LogRecord], notes: Mapping[int, Note], start: int) -> list[Taken]:
        """Take the events of records.

        Args:
            records: The next records of the partition.
            notes: The notes of the records that have one, by position.
            start: Offset of the first event that is returned.

        Returns:
            Those that meet the conditions, in the order of the records.
        """
        ...


class _Decoding:
    def __init__(self, schemas: SchemaStore) -> None:
        self._schemas = schemas

    def _decoded(self, value: bytes) -> Event | None:
        try:
            return self._schemas.decode(value)
        except SchemaError:
            return None


class TrialScan(_Decoding):
    """Scans a partition of the trials topic; see `Scan`.

    Args:
        route: The partition.
        partitions: Number of partitions.
        conditions: The filter.
        schemas: Schemas of the log.
    """

    def __init__(self, route: Route, partitions: int, conditions: Filter, schemas: SchemaStore) -> None:
        super().__init__(schemas)
        self.skipped = 0
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

    def scan(self, records: Sequence[LogRecord], notes: Mapping[int, Note], start: int) -> list[Taken]:
        """See `Scan`."""
        taken: list[Taken] = []
        take, wanted, hash_ = self._decisions.take, self._wanted, self._hash
        for position, record in enumerate(records):
            value = record.value or b""
            is_wanted = wanted.get(value[:PREFIX_BYTES])
            found: Taken | Left | None
            if notes and position in notes:
                found = None if notes[position].reason is None else Left.REFUSED
            elif is_wanted is None:
                found = self._decide(record, value)
            elif hash_ is not None and not _is_of(value, hash_):
                continue
            else:
                try:
                    trial = take(*read_head(value))
                except SchemaError:
                    trial = Left.REFUSED
                if isinstance(trial, TrialState):
                    if is_wanted and trial.wanted and record.offset >= start:
                        taken.append((record, trial.uid, trial.project, trial.group, None))
                    continue
                found = trial
            if record.offset < start or found is None:
                continue
            if found is Left.REFUSED:
                self.skipped += 1
            elif isinstance(found, tuple):
                taken.append(found)
        return taken

    def _decide(self, record: LogRecord, value: bytes) -> Taken | Left | None:
        """Decode an event and decide it."""
        event = self._decoded(value)
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
        return record, trial.uid, trial.project, trial.group, event


def _is_of(value: bytes, hash_: bytes) -> bool:
    """Whether the address at the beginning of an event has a hash."""
    at = PREFIX_BYTES + (2 if value[PREFIX_BYTES : PREFIX_BYTES + 1] >= b"\x80" else 1)
    return value.startswith(hash_, at)


class RegistryScan(_Decoding):
    """Scans the registry; see `Scan`.

    Args:
        conditions: The filter.
        schemas: Schemas of the log.
    """

    def __init__(self, conditions: Filter, schemas: SchemaStore) -> None:
        super().__init__(schemas)
        self.skipped = 0
        self._filter = conditions
        self._decisions = RegistryDecisions()

    def scan(self, records: Sequence[LogRecord], notes: Mapping[int, Note], start: int) -> list[Taken]:
        """See `Scan`."""
        taken: list[Taken] = []
        for position, record in enumerate(records):
            found: tuple[str | None, str | None] | Left | None
            event = None
            if position in notes:
                found = None if notes[position].reason is None else Left.REFUSED
            else:
                event = self._decoded(record.value or b"")
                found = Left.REFUSED
                if isinstance(event, SubjectEvent) and not isinstance(event, TrialEvent):
                    found = self._decisions.take(event)
                elif event is not None and not isinstance(event, SubjectEvent):
                    found = None  # the identity of the log
            if record.offset < start or found is None:
                continue
            if found is Left.REFUSED:
                self.skipped += 1
            elif isinstance(found, tuple) and isinstance(event, SubjectEvent) and self._wants(event, *found):
                taken.append((record, None, *found, event))
        return taken

    def _wants(self, event: SubjectEvent, project: str | None, group: str | None) -> bool:
        return self._filter.wants(project, group) and self._filter.wants_kind(type(event))


def decoded(
    taken: Sequence[Taken], schemas: SchemaStore, topic: str, partition: int
) -> tuple[list[LogEvent], list[SchemaError]]:
    """Decode the events of a partition.

    Args:
        taken: The events.
        schemas: Schemas of the log.
        topic: Name of the topic.
        partition: Number of the partition.

    Returns:
        The events as the stream returns them, and why the others cannot be decoded.
    """
    rest: list[bytes] = []
    frames: dict[int, LongFrame] = {}  # by position in `taken`
    for i, (record, *_, known) in enumerate(taken):
        if known is None:
            value = record.value or b""
            if len(value) >= _LONG_BYTES and value.startswith(_FRAME_PREFIX):
                frame = check_long_frame(value, HEADER_BYTES)
                if frame is not None:
                    frames[i] = frame
                    continue
            rest.append(value)
    bodies = schemas.decode_all(rest)
    following = iter(bodies)
    found: list[LogEvent] = []
    errors: list[SchemaError] = []
    runs: dict[int, Iterator[Rows | None]] = {}  # by `id` of the run
    event: StreamEvent | SchemaError | None
    for i, (record, trial, project, group, known) in enumerate(taken):
        if known is not None:
            event = known
        elif i in frames:
            event = Rows.of(frames[i], record.value or b"")
        else:
            body = next(following)
            if type(body) is RowRun:
                rows = runs.get(id(body))
                if rows is None:
                    rows = runs[id(body)] = rows_of_run(body)
                event = next(rows)
            elif type(body) is MetricsLogged:
                event = rows_of(body)
            elif isinstance(body, SubjectEvent):
                event = None if envelope_fault(body) else body
            else:
                event = body if isinstance(body, SchemaError) else None
        if event is None:
            errors.append(SchemaError("the event is inconsistent"))
        elif isinstance(event, SchemaError):
            errors.append(event)
        else:
            found.append(LogEvent(topic, partition, record.offset, record.timestamp, trial, project, group, event))
    return found, errors
