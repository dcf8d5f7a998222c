"""Size of documents: the growth that an event causes, and the limits that keep documents under MongoDB's 16 MiB.

`Trial.size` is never less than the BSON size of the trial's document without errors, writers and attempts
(property-tested). These have limits of their own, so that a trial whose document is full can still be ended and
resumed; the texts of participants count in `Trial.size`, and are left out if the document is full.
"""

from __future__ import annotations

from typing import Any

from trialstream_schemas.model.aggregators import Aggregator, BestAggregator, RingAggregator, TimeSeriesAggregator
from trialstream_schemas.model.attempts import MAX_RANKS
from trialstream_schemas.model.trial import Trial, TrialGroup
from trialstream_schemas.model.values import key_size, size
from trialstream_schemas.wire.events import MetricsLogged

from trialstream_consumer.fold.state import Refused, State

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_DOCUMENT_BYTES",
    "MAX_ERRORS",
    "MAX_JOINS",
    "MAX_PARTICIPANTS",
    "aggregator_entry",
    "grow",
    "initial_size",
    "last_step_growth",
    "merge",
    "merge_into_group",
    "ring_growth",
    "value_size",
]

# MongoDB takes 16 MiB. The difference is room for errors and writers, and for the fixed fields of groups.
MAX_DOCUMENT_BYTES = 12 * 1024 * 1024
# 32 errors of at most 10,496 characters stay under 1.4 MiB of UTF-8. They do not count towards MAX_DOCUMENT_BYTES, so
# that the end of a trial is never refused for the size of its traceback.
MAX_ERRORS = 32
# The marks of writers (`MAX_WRITERS`) do not count towards MAX_DOCUMENT_BYTES either, so a new writer can end a trial.
# 512 attempts take at most 180 KB, and the participants of all attempts at most 1.3 MB: 2,048 whose state is kept, of
# 180 bytes each without their texts, and 10,240 of 86 bytes. They do not count towards MAX_DOCUMENT_BYTES.
MAX_ATTEMPTS = 512
MAX_PARTICIPANTS = MAX_RANKS
MAX_JOINS = 12 * 1024
# Upper bound of the fixed fields of a trial's document and of its chrono `runtime`.
_FIXED_BYTES = 8 * 1024
_WITH_LAST_STEP = (TimeSeriesAggregator.kind, BestAggregator.kind)
# Upper bound of the bytes of an entry other than those of its key and value.
_ENTRY_BYTES = 64


def initial_size(trial: Trial) -> int:
    """Size of the document of a new trial, bytes."""
    total = _FIXED_BYTES + len(trial.description.encode())
    return total + size(trial.parameters) + size(trial.metadata) + size(trial.tags)


def grow(trial: Trial, growth: int) -> None:
    """Add to the size of a trial's document; negative growth is always accepted.

    Raises:
        Refused: The document would exceed `MAX_DOCUMENT_BYTES`; the trial is unchanged.
    """
    if trial.size + growth > MAX_DOCUMENT_BYTES and growth > 0:
        raise _too_large("trial", trial.uid)
    trial.size += growth


def merge_into_group(state: State, group: TrialGroup, given: dict[str, Any]) -> None:
    """Merge values into the metadata of a group.

    Args:
        state: The state, which keeps the size of the metadata.
        group: The group.
        given: Values by key.

    Raises:
        Refused: The document would exceed `MAX_DOCUMENT_BYTES`; the group is unchanged.
    """
    held = group.metadata
    key = "metadata", group.uid
    replaced = {each: held[each] for each in given if each in held}
    total = value_size(state, key, held) + size(given) - size(replaced)
    if total > MAX_DOCUMENT_BYTES:
        raise _too_large("group", group.uid)
    held.update(given)
    state.sizes[key] = total


def value_size(state: State, key: tuple[str, str], value: Any) -> int:
    """Size of a value, bytes: computed once, and kept in the state, since a group may have megabytes.

    Args:
        state: The state.
        key: Name of the field and uid of its document.
        value: The value.
    """
    if key not in state.sizes:
        state.sizes[key] = size(value)
    return state.sizes[key]


def _too_large(kind: str, uid: str) -> Refused:
    return Refused(f"the document of {kind} {uid} would exceed {MAX_DOCUMENT_BYTES} bytes: log fewer or smaller values")


def merge(trial: Trial, held: dict[str, Any], given: dict[str, Any], growth: int = 0) -> None:
    """Merge values into a dict of a trial and add the growth to the trial's size.

    Args:
        trial: The trial.
        held: One of the trial's dicts, such as its tags.
        given: Values and aggregators by key.
        growth: Growth for other reasons, bytes.

    Raises:
        Refused: The document would be too large; the trial is unchanged.
    """
    for key, x in given.items():
        growth += _bytes(x) - _bytes(held[key]) if key in held else _ENTRY_BYTES + key_size(key) + _bytes(x)
    grow(trial, growth)
    held.update(given)


def _bytes(x: Any) -> int:
    return x.reserved if isinstance(x, Aggregator) else size(x)


def aggregator_entry(name: str, aggregator: Aggregator, copies: int) -> int:
    """Growth for a new aggregator whose name is the key of `copies` entries, bytes."""
    return _ENTRY_BYTES + copies * key_size(name) + aggregator.reserved


def last_step_growth(trial: Trial, event: MetricsLogged, step: float | str | None) -> int:
    """Growth for the last step of a frame, bytes: each time series keeps its last step, which may be a text."""
    text = type(step) is str
    growth = 0
    for name in event.names:
        held = trial.metrics.get(name)
        if isinstance(held, TimeSeriesAggregator):
            if text or type(held.last_step) is str:  # two numbers have the same size
                growth += size(step) - size(held.last_step)
        elif held is None and text and event.aggregator.kind in _WITH_LAST_STEP:
            growth += size(step) - size(None)
    return growth


def ring_growth(ring: RingAggregator, x: Any) -> int:
    """Growth for a value that is added to a ring, bytes: the document holds the latest value in `values` and `last`."""
    replaced = size(ring.values[0]) if len(ring.values) == ring.size else 0
    return 2 * size(x) - replaced - size(ring.last)
