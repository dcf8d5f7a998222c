"""Histories in memory: the curves that were read last, to which only later rows are added at the next read.

A curve is read again as a whole when rows that it has may be superseded: when an attempt of its trial has resumed from
a checkpoint since. `glance` does not wait for long curves, and returns their outlines. All functions block, and run in
threads beside the event loop.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import numpy as np
from trialstream.protocol import MetricHistory
from trialstream.sync import SyncProtocol
from trialstream_schemas.errors import MongoUnavailable
from trialstream_schemas.model.outline import Outline
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.model.trial import Trial

from trialstream_console.dashboard.curves import Curve
from trialstream_console.dashboard.refusals import Refusal

__all__ = ["CurveKey", "Glance", "Histories", "Read", "Section"]

Section: TypeAlias = Literal["metrics", "chronos"]

_FIELDS = ["created", "started", "rows", "attempts"]
_PARTICIPANTS = ["participants", "former_participants"]
# Rows and trials of one request to MongoDB: beside the curves, their buckets and histories are in memory.
_ROWS_AT_ONCE = 1_000_000
_TRIALS_AT_ONCE = 64
_PARTS_AT_ONCE = 2
# Values of all curves that `glance` reads, 0.1 s; and values of those whose outlines it reads, 45 MB.
_GLANCE_VALUES, _OUTLINED_VALUES = 500_000, 100_000_000


class CurveKey(NamedTuple):
    """The key by which a curve is read.

    Attributes:
        trial: Uid of the trial.
        section: Section of the trial.
        name: Name of the metric or chrono.
        attempts: Whether superseded rows are there, too.
        by: `rank` or `writer` for a curve of each; None for one of all.
    """

    trial: str
    section: Section
    name: str
    attempts: bool = False
    by: Literal["rank", "writer"] | None = None


class Read(NamedTuple):
    """The curves that were read.

    Attributes:
        curves: For each key, the curves by the text of the rank or writer, or by the empty text.
        rows: By uid of the trial, the number of its rows that the curves take part of.
        started: By uid of the trial, when it was started, or created; microseconds since 1970.
        reread: By uid of the trial, the number of its rows when its curves were last read as a whole, since rows may
            have been superseded; 0 if that was not so.
    """

    curves: dict[CurveKey, dict[str, Curve]]
    rows: dict[str, int]
    started: dict[str, int]
    reread: dict[str, int]


class Glance(NamedTuple):
    """The curves that can be had at once.

    Attributes:
        read: Those with all of their rows.
        outlines: Those of which there are outlines, with the rows of these.
        pending: Uids of the trials of these, and of those that are in neither.
    """

    read: Read
    outlines: dict[CurveKey, Outline]
    pending: list[str]


@dataclass
class _Entry:
    """The curves of a key.

    Attributes:
        signature: What decides which rows are superseded, and which rank a writer has.
        rows: Number of rows of the trial of which these curves have theirs.
        reread: As in `Read`.
        curves: The curves.
        nbytes: Memory of the curves as it was last counted, bytes.
    """

    signature: tuple[Any, ...]
    rows: int = 0
    reread: int = 0
    curves: dict[str, Curve] = field(default_factory=dict)
    nbytes: int = 0


class Histories:
    """The curves that were read last, within a bound of memory.

    Args:
        max_bytes: Memory of the curves, bytes. Those of one request are kept until it is answered.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # of the entries and their size
        self._entries: OrderedDict[CurveKey, _Entry] = OrderedDict()
        self._nbytes = 0
        self._reading: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()  # by uid

    @property
    def nbytes(self) -> int:
        """Memory of the curves, bytes."""
        return self._nbytes

    def read(self, protocol: SyncProtocol, keys: Iterable[CurveKey]) -> Read:
        """Return curves as they are now.

        Args:
            protocol: Reads what is missing.
            keys: What to read; a name without a history gives no curves.

        Returns:
            The curves.

        Raises:
            Refusal: There is no such trial.
            MongoUnavailable: MongoDB does not answer.
        """
        wanted = list(dict.fromkeys(keys))
        trials = _trials(protocol, wanted)
        return self._read_current(protocol, wanted, trials)

    def glance(self, protocol: SyncProtocol, keys: Iterable[CurveKey]) -> Glance:
        """Return curves as they are now, without waiting for those of many rows that are not in memory.

        Args:
            protocol: Reads what is missing.
            keys: What to read; a name without a history gives no curves.

        Returns:
            The curves, and outlines in place of some.

        Raises:
            Refusal: There is no such trial.
            MongoUnavailable: MongoDB does not answer.
        """
        wanted = list(dict.fromkeys(keys))
        trials = _trials(protocol, wanted)
        at_hand: list[CurveKey] = []
        outlined: list[CurveKey] = []
        pending: list[str] = []
        left, left_outlined = _GLANCE_VALUES, _OUTLINED_VALUES
        for uid, trial in trials.items():
            some = [key for key in wanted if key.trial == uid]
            missing = self._missing_rows(some, trial) * len(some)
            if missing <= left:
                left -= missing
                at_hand += some
                continue
            pending.append(uid)
            with_outlines = [key for key in some if _may_have_outline(key, trial)]
            if trial.rows * len(with_outlines) <= left_outlined:
                left_outlined -= trial.rows * len(with_outlines)
                outlined += with_outlines
        outlines = _outlines(protocol, outlined, trials)
        read = self._read_current(protocol, at_hand, {key.trial: trials[key.trial] for key in at_hand})
        for uid in pending:
            read.rows[uid], read.started[uid], read.reread[uid] = trials[uid].rows, _started(trials[uid]), 0
        return Glance(read, outlines, pending)

    def _missing_rows(self, keys: Iterable[CurveKey], trial: Trial) -> int:
        """Number of the rows of a trial that the curves of some key in memory do not have."""
        with self._lock:
            known = [(self._entries.get(key), _signature(key, trial)) for key in keys]
        rows = [entry.rows if entry is not None and entry.signature == its else 0 for entry, its in known]
        return trial.rows - min(rows)

    def _read_current(self, protocol: SyncProtocol, wanted: Sequence[CurveKey], trials: Mapping[str, Trial]) -> Read:
        # Reads of other requests do not hold up curves that are in memory.
        is_current = all(self._missing_rows([key], trials[key.trial]) <= 0 for key in wanted)
        with contextlib.nullcontext() if is_current else self._reading_of(trials):
            return self._read(protocol, wanted, trials)

    def _read(self, protocol: SyncProtocol, wanted: Sequence[CurveKey], trials: Mapping[str, Trial]) -> Read:
        entries = {key: self._entry(key, trials[key.trial]) for key in wanted}
        rows = {uid: trial.rows for uid, trial in trials.items()}
        for key, entry in entries.items():
            rows[key.trial] = max(rows[key.trial], entry.rows)  # another request has read later rows meanwhile
        behind = [key for key, entry in entries.items() if entry.rows < rows[key.trial]]
        parts = list(_parts(behind, entries, rows))
        with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:  # MongoDB reads one part while another one is decoded
            list(pool.map(lambda part: self._read_part(protocol, part, entries, trials, rows), parts))
        self._keep(entries)
        return Read(
            {key: dict(entry.curves) for key, entry in entries.items()},
            rows,
            {uid: _started(trial) for uid, trial in trials.items()},
            {uid: max(entry.reread for key, entry in entries.items() if key.trial == uid) for uid in trials},
        )

    @contextlib.contextmanager
    def _reading_of(self, uids: Iterable[str]) -> Iterator[None]:
        """Let no other thread read the same trials while the block runs."""
        with self._lock:
            locks = [self._reading.setdefault(uid, threading.Lock()) for uid in sorted(uids)]
        with contextlib.ExitStack() as held:
            for each in locks:
                held.enter_context(each)
            yield

    def _entry(self, key: CurveKey, trial: Trial) -> _Entry:
        """Return the entry of a key; a new one if there is none, or if that is not valid any more."""
        signature = _signature(key, trial)
        with self._lock:
            known = self._entries.get(key)
        if known is not None and known.signature == signature:
            return known
        return _Entry(signature, reread=0 if known is None else trial.rows)

    def _read_part(
        self,
        protocol: SyncProtocol,
        part: Sequence[CurveKey],
        entries: Mapping[CurveKey, _Entry],
        trials: Mapping[str, Trial],
        rows: Mapping[str, int],
    ) -> None:
        """Read the missing rows of keys with the same section, attempts and number of rows that are known."""
        first = part[0]
        found = protocol.fetch_histories(
            [trials[uid] for uid in dict.fromkeys(key.trial for key in part)],
            *dict.fromkeys(key.name for key in part),
            section=first.section,
            attempts=first.attempts,
            since_row=entries[first].rows or None,
        )
        for key in part:
            entry, history = entries[key], found[key.trial].get(key.name)
            if history is not None:
                before = slice(None, int(np.searchsorted(history.rows, rows[key.trial])))
                for group, some in _groups(_rows(history, before), key.by, trials[key.trial]):
                    entry.curves.setdefault(group, Curve()).extend(some)
            entry.rows = rows[key.trial]

    def _keep(self, entries: Mapping[CurveKey, _Entry]) -> None:
        """Remember entries as those that were used last, and forget the oldest ones beyond the bound."""
        with self._lock:
            for key, entry in entries.items():
                old = self._entries.pop(key, None)
                self._nbytes -= 0 if old is None else old.nbytes
                entry.nbytes = sum(each.nbytes for each in entry.curves.values()) + 1024
                self._nbytes += entry.nbytes
                self._entries[key] = entry
            while self._nbytes > self._max_bytes and self._entries:
                self._nbytes -= self._entries.popitem(last=False)[1].nbytes


def _parts(
    keys: Iterable[CurveKey], entries: Mapping[CurveKey, _Entry], rows: Mapping[str, int]
) -> Iterator[list[CurveKey]]:
    """Cut keys into those that are read by one request."""
    kinds: dict[tuple[Any, ...], dict[str, list[CurveKey]]] = {}
    for key in keys:
        kinds.setdefault((key.section, key.attempts, entries[key].rows), {}).setdefault(key.trial, []).append(key)
    by_names: dict[tuple[Any, ...], list[list[CurveKey]]] = {}
    for kind, by_trial in kinds.items():
        for some in by_trial.values():
            by_names.setdefault((*kind, tuple(sorted({key.name for key in some}))), []).append(some)
    for some_trials in by_names.values():
        part: list[CurveKey] = []
        size = count = 0
        for some in some_trials:
            more = rows[some[0].trial] - entries[some[0]].rows
            if part and (size + more > _ROWS_AT_ONCE or count == _TRIALS_AT_ONCE):
                yield part
                part, size, count = [], 0, 0
            part += some
            size, count = size + more, count + 1
        yield part


def _trials(protocol: SyncProtocol, keys: Sequence[CurveKey]) -> dict[str, Trial]:
    """Read the fields that are needed of the trials of keys, by uid, in the order of the keys."""
    uids = list(dict.fromkeys(each.trial for each in keys))
    found = {each.uid: each for each in protocol.fetch_trials({"uid": {"$in": uids}}, fields=_FIELDS)}
    if missing := [uid for uid in uids if uid not in found]:
        raise Refusal("not_found", f"there is no trial {missing[0]}", place="curves")
    with_participants = {
        each.trial for each in keys if each.by == "rank" or (not each.attempts and _resumes(found[each.trial]))
    }
    if with_participants:
        query = {"uid": {"$in": list(with_participants)}}
        for each in protocol.fetch_trials(query, fields=[*_FIELDS, *_PARTICIPANTS]):
            found[each.uid] = each
    return {uid: found[uid] for uid in uids}


def _outlines(protocol: SyncProtocol, keys: Sequence[CurveKey], trials: Mapping[str, Trial]) -> dict[CurveKey, Outline]:
    """Read the outlines of curves, as far as there are any and MongoDB is fast."""
    found: dict[str, dict[str, Outline]] = {}
    if keys:
        with contextlib.suppress(MongoUnavailable):  # the rows, which are read next, may take longer
            found = protocol.outlines([key.trial for key in keys], *{key.name for key in keys})
    return {
        key: found[key.trial][key.name].until(trials[key.trial].rows)
        for key in keys
        if key.name in found.get(key.trial, ())
    }


def _may_have_outline(key: CurveKey, trial: Trial) -> bool:
    """Whether the curve of a key has all rows of a metric, as outlines do."""
    return key.section == "metrics" and key.by is None and (key.attempts or not _resumes(trial))


def _resumes(trial: Trial) -> bool:
    return any(each.resume_step is not None for each in trial.attempts)


def _signature(key: CurveKey, trial: Trial) -> tuple[Any, ...]:
    found: tuple[Any, ...] = (trial.created,)
    if not key.attempts and _resumes(trial):
        found += tuple((each.key, each.resume_step) for each in trial.attempts)
    if key.by == "rank" or len(found) > 1:
        found += (len(trial.participants) + len(trial.former_participants),)
    return found


def _started(trial: Trial) -> int:
    time: datetime | None = trial.started or trial.created
    return 0 if time is None else to_micros(time)


def _groups(
    history: MetricHistory, by: Literal["rank", "writer"] | None, trial: Trial
) -> Iterator[tuple[str, MetricHistory]]:
    """Cut a history by the rank or the writer of its rows."""
    if by is None:
        yield "", history
        return
    writers = history.writers.tolist()
    names = {each: each if by == "writer" else _rank(trial, each) for each in dict.fromkeys(writers)}
    groups = list(dict.fromkeys(names.values()))
    places = {writer: groups.index(name) for writer, name in names.items()}
    of_row = np.fromiter(map(places.__getitem__, writers), np.intp, len(writers))
    for number, name in enumerate(groups):
        yield name, _rows(history, of_row == number)


def _rank(trial: Trial, writer: str) -> str:
    found = trial.participants.get(writer) or trial.former_participants.get(writer)
    return "" if found is None or found.rank is None else str(found.rank)


def _rows(history: MetricHistory, index: Any) -> MetricHistory:
    columns = (history.steps, history.times, history.writers, history.values, history.rows)
    return MetricHistory(*(each[index] for each in columns))
