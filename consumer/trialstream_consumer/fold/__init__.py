"""The fold: pure functions that apply the events of a log to the state of a partition.

Invariants, each tested as a property:

- **Pure.** The result depends on the state and the events alone: no clock, no randomness, no I/O.
- **Cut-free.** Folding a log in one batch or in many, from memory or from documents read back, gives the same state.
- **Exactly once.** An event counts once, however often it is delivered: an event whose `seq` is at most its writer's
  mark, or whose request is known, is skipped. An event whose `seq` leaves a gap is applied, and the gap is counted on
  the trial as `lost_events`.
- **All or nothing.** A refused event changes nothing but its writer's mark, and becomes a dead letter. An event of
  several updates is refused if one of them is.

The fold changes the state in place. A caller that cannot write the changes drops the state.

| module | job |
|---|---|
| `measures` | what is computed from the columns of frames alone, for many frames at once |
| `state` | the state of a partition and its unwritten changes |
| `document_size` | the size of documents and their limits |
| `footprint` | the memory that a state takes |
| `history` | rows into the buckets of a trial |
| `loading` | what must be loaded before a batch can be folded |
| `exactly_once` | marks of writers, claimed versions, outcomes of requests |
| `aggregators` | the aggregators of metrics and chronos |
| `attempts` | starts and finishes, attempts and their participants |
| `metrics`, `chronos`, `metadata` | events with observations |
| `creation` | creations of projects, groups and trials |
| `updates` | all other events of groups and trials |
| `dispatch` | `fold`: one event to its function |
| `batch` | a batch, with single rows folded in groups |
"""

from __future__ import annotations

from trialstream_consumer.fold.batch import (
    Decoded,
    FoldFault,
    RowGroup,
    first_events,
    fold_groups,
    fold_in_steps,
    row_groups,
    single_groups,
)
from trialstream_consumer.fold.dispatch import fold
from trialstream_consumer.fold.footprint import footprint
from trialstream_consumer.fold.loading import Needs, needs
from trialstream_consumer.fold.metrics import fold_rows
from trialstream_consumer.fold.state import BucketKey, Changes, Refused, State, resolve

__all__ = [
    "BucketKey",
    "Changes",
    "Decoded",
    "FoldFault",
    "Needs",
    "Refused",
    "RowGroup",
    "State",
    "first_events",
    "fold",
    "fold_groups",
    "fold_in_steps",
    "fold_rows",
    "footprint",
    "needs",
    "resolve",
    "row_groups",
    "single_groups",
]
