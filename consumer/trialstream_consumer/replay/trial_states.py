"""The states of one trial at any time: a fold of its own records, with snapshots."""

from __future__ import annotations

import pickle
import threading
from bisect import bisect_right
from collections.abc import Callable
from typing import TypeVar

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.events import Event
from trialstream_schemas.wire.rows import apart

from trialstream_consumer.fold import Changes, FoldFault, State, fold_groups, row_groups, single_groups
from trialstream_consumer.replay.trial_log import TrialLog

__all__ = ["Stopped", "TrialStates"]

T = TypeVar("T")

_STEP_RECORDS = 1000
_MAX_SNAPSHOTS = 16
# A larger state is folded again rather than kept sixteen times.
_MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024
# Memory of a trial, in sizes of its document: 1 for metrics to 6 for small parameters (measured).
_SIZE_FACTOR = 6


class Stopped(Exception):
    """The fold was stopped before it has reached the time."""


class TrialStates:
    """The states of a trial. Safe to use from any thread, one at a time.

    Invariant: a state is that of the fold of the records up to its time, whichever states were made before.

    Args:
        log: The records of the trial; more may be added meanwhile.
    """

    def __init__(self, log: TrialLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        # Number of records that are folded, and the state; the next later time continues it.
        self._folded = 0
        self._state = State()
        # Numbers of records in ascending order, and the state after each.
        self._places: list[int] = []
        self._snapshots: list[bytes] = []
        # Positions of records on which the fold failed, and whether records are folded one by one to find such ones.
        self._poisoned: set[int] = set()
        self._one_by_one = False

    @property
    def nbytes(self) -> int:
        """Memory of the states, about, bytes."""
        trial = self._state.trials.get(self._log.uid)
        return sum(map(len, self._snapshots)) + _SIZE_FACTOR * (0 if trial is None else trial.size)

    def at(self, timestamp: int, show: Callable[[Trial | None], T], is_stopped: Callable[[], bool]) -> T:
        """Show the trial as of a time.

        Args:
            timestamp: Append time, milliseconds since 1970 UTC; records of that time count.
            show: Called with the trial, which a later call changes; None if it does not exist at that time.
            is_stopped: Called every thousand records; the fold ends once it returns True.

        Returns:
            What `show` returns.

        Raises:
            Stopped: The fold was stopped; the next call goes on where it has ended.
        """
        with self._lock:
            count = self._log.count_at(timestamp)
            self._restore(count)
            while self._folded < count:
                if is_stopped():
                    raise Stopped
                self._fold(min(count, self._folded + _STEP_RECORDS))
            return show(self._state.trials.get(self._log.uid))

    def addresses(self) -> set[str]:
        """Return the addresses under which the records that are folded have named the trial, besides its uid."""
        with self._lock:
            outcomes = self._state.outcomes.items()
            return {id_ for id_, each in outcomes if each is not None and each.uid == self._log.uid}

    def _restore(self, count: int) -> None:
        """Take the latest known state with at most so many records."""
        found = bisect_right(self._places, count)
        place = self._places[found - 1] if found else 0
        if place <= self._folded <= count:
            return
        self._state = pickle.loads(self._snapshots[found - 1]) if found else State()  # noqa: S301 (made here)
        self._folded = place

    def _fold(self, end: int) -> None:
        """Fold records up to a number; fewer after a fault of the fold, which leaves no state."""
        decoded = apart(self._log.schemas.decode_all([each.value for each in self._log.records[self._folded : end]]))
        events: list[Event | None] = [
            None
            if isinstance(each, SchemaError) or envelope_fault(each) or self._folded + i in self._poisoned
            else each
            for i, each in enumerate(decoded)
        ]
        try:
            fold_groups(self._state, events, (single_groups if self._one_by_one else row_groups)(events))
        except FoldFault as fault:
            if len(fault.group) == 1:
                self._poisoned.add(self._folded + fault.group[0])
            self._one_by_one = True
            self._folded, self._state = 0, State()
            self._places, self._snapshots = [], []
            return
        self._state.changes = Changes()
        self._folded = end
        self._keep()

    def _keep(self) -> None:
        """Keep the state, if it is far enough from those that are kept."""
        stride = max(_STEP_RECORDS, len(self._log.records) // _MAX_SNAPSHOTS)
        if self._folded in self._places or self._folded // stride == (self._folded - _STEP_RECORDS) // stride:
            return
        kept = pickle.dumps(self._state)
        if len(kept) > _MAX_SNAPSHOT_BYTES:
            return
        at = bisect_right(self._places, self._folded)
        self._places.insert(at, self._folded)
        self._snapshots.insert(at, kept)
        if len(self._places) > 2 * _MAX_SNAPSHOTS:  # the log has grown
            self._places, self._snapshots = self._places[::2], self._snapshots[::2]
