"""Footprint of a state: the bytes that its entries take, for a bound of the cache that a state is."""

from __future__ import annotations

from trialstream_schemas.model.history import Bucket
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import MAX_NAME_BYTES

from trialstream_consumer.fold.document_size import value_size
from trialstream_consumer.fold.state import State

__all__ = ["footprint"]

# Bytes of an entry, of its key and of the objects of fixed size in it, in round figures.
_ENTRY_BYTES = 512
_TRIAL_BYTES = 2048
_WRITER_BYTES = 192
_PARTICIPANT_BYTES = 512
_SPAN_BYTES = 192


def footprint(state: State) -> tuple[int, int]:
    """Return how many entries a state has, and about how many bytes they take.

    Documents count with their size in MongoDB. The time is proportional to the number of entries, not to their sizes.

    Args:
        state: The state.
    """
    entries = len(state.trials) + len(state.revisions) + len(state.buckets) + len(state.outcomes)
    entries += len(state.groups) + len(state.projects)
    total = _ENTRY_BYTES * entries
    total += sum([_trial_bytes(each) for each in state.trials.values() if each is not None])
    total += sum([_bucket_bytes(each) for each in state.buckets.values() if each is not None])
    total += sum([len(each.reason) for each in state.outcomes.values() if each is not None and each.reason])
    for uid, group in state.groups.items():
        if group is not None:
            total += value_size(state, ("metadata", uid), group.metadata) + value_size(state, ("tags", uid), group.tags)
            total += len(group.description) + _WRITER_BYTES * len(group.writers)
    for uid, project in state.projects.items():
        if project is not None:
            total += value_size(state, ("project", uid), [project.metadata, project.tags, project.description])
    return entries, total


def _trial_bytes(trial: Trial) -> int:
    attempts = len(trial.attempts) + len(trial.participants) + len(trial.former_participants)
    errors = sum([len(each.message) + len(each.traceback) for each in trial.errors]) if trial.errors else 0
    return _TRIAL_BYTES + trial.size + _WRITER_BYTES * len(trial.writers) + _PARTICIPANT_BYTES * attempts + errors


def _bucket_bytes(bucket: Bucket) -> int:
    names = len(bucket.shape.names)
    step = MAX_NAME_BYTES if bucket.shape.steps == "text" else 8
    # 8 bytes per value and time.
    return bucket.shape.memory + len(bucket) * (8 * (names + 1) + step) + _SPAN_BYTES * len(bucket.spans)
