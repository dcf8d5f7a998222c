"""The fold: pure, independent of cuts, exactly once, all or nothing, and equal to a plain model."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import bson
import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import FIRST, Dice, burst, logs, several
from model import BOUNDS, comparable, expected, meaning, reading
from profiles import examples
from projection import Projection, project
from strategies import EVENTS
from trialstream_consumer.fold import Refused, State, attempts, fold, fold_groups, history, row_groups, single_groups
from trialstream_schemas.model import history as series
from trialstream_schemas.storage import documents
from trialstream_schemas.wire.events import SubjectEvent

# Buckets of few rows, so that short logs fill some of them.
CAPACITY = 4


@pytest.fixture(autouse=True, scope="module")
def _small_buckets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "MAX_ROWS", CAPACITY)
        # A cached shape would keep its capacity.
        patch.setattr(history, "_shape", series.Shape)
        # Few attempts and participants, so that short logs reach the bounds.
        for name, bound in {"attempts": 3, "participants": 2, "joins": 4}.items():
            patch.setattr(attempts, f"MAX_{name.upper()}", bound)
            patch.setitem(BOUNDS, name, bound)
        yield


@settings(max_examples=examples(400))
@given(logs(), st.data())
def test_fold_equals_the_model(log, data):
    """The documents equal those of a plain model, field by field and row by row."""
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=4))
    projection = project(log, cuts, reload=True)

    world = expected(meaning(log))
    rows = max((trial["rows"] for trial in world["trials"].values()), default=0)
    note(f"dead letters: {min(len(world['dead']), 3)}, rows: {rows // 8 * 8}")
    assert comparable(reading(projection.documents, projection.dead_letters, CAPACITY)) == comparable(world)


@settings(max_examples=examples(200))
@given(logs(), st.data())
def test_fold_is_independent_of_cuts(log, data):
    """For any cuts of the log, with states from memory or from documents, every document is the same to the byte."""
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=6))
    whole = project(log)

    for other in (project(log, cuts), project(log, cuts, reload=True), project(log, range(len(log)), reload=True)):
        assert other.documents == whole.documents
        assert other.dead_letters == whole.dead_letters


@settings(max_examples=examples(200))
@given(st.lists(st.builds(lambda seed: burst(Dice(seed)), st.integers(0, 2**32)), max_size=8))
def test_rows_are_folded_together_as_one_by_one(bursts):
    """Rows give the same documents, to the byte, in row groups, one by one, and in batches of one."""
    log = [copy.deepcopy(FIRST)]
    for each in itertools.chain.from_iterable(bursts):
        if each.request is None:
            each.seq = 1 + sum((each.trial, each.writer) == (event.trial, event.writer) for event in log)
        log.append(each)
    note(f"longest group: {min(max(map(len, row_groups(log))), 8)}")
    together, batches = project(log), project(log, range(len(log)), reload=True)
    one_by_one, state = Projection(), State()
    refused = fold_groups(state, copy.deepcopy(log), single_groups(log))
    one_by_one.write(state)

    assert together.documents == one_by_one.documents == batches.documents
    assert together.dead_letters == refused == batches.dead_letters


@settings(max_examples=examples(200))
@given(logs(max_size=20), st.integers(0, 2**32))
def test_several_updates_equal_the_updates_one_by_one(log, seed):
    """Several updates in one event make the same documents as each by itself, or nothing if one of them is refused.

    Two things differ: they count once in `state_version`, and they have one outcome.
    """
    log = [copy.deepcopy(FIRST), *log]
    given = {"trial": FIRST.trial, "writer": "w1", "time": 0, "if_version": None, "request": "several"}
    event = several(Dice(seed), given)
    singles = [
        replace(each, trial=event.trial, writer="w1", seq=0, request=f"single {i}", if_version=None)
        for i, each in enumerate(event.updates)
    ]
    event.updates = [replace(each, request=None) for each in singles]
    event.time = max((each.time for each in singles), default=0)
    before, together, apart = project(log), project([*log, event]), project([*log, *singles])
    refused = len(apart.dead_letters) - len(before.dead_letters)
    note(f"updates: {len(singles)}, refused: {min(refused, 1)}")

    if refused:
        assert unversioned(together) == unversioned(before)
        assert together.dead_letters[-1][1].startswith("updates[")
    else:
        assert unversioned(together) == unversioned(apart)
        assert together.dead_letters == before.dead_letters


def unversioned(projection):
    """Return the trials without their versions, and the history.

    The time when a participant was last seen is left out: one that joins in one of several updates has the time of the
    whole event, and one by one, that of its own start.
    """
    trials = {uid: bson.decode(each) | {"state_version": 0} for uid, each in projection.documents["trials"].items()}
    for trial in trials.values():
        for participant in trial.get("participants", {}).values():
            participant["last_seen"] = 0
    return comparable(trials), projection.documents["series"]


@settings(max_examples=examples(100))
@given(logs(), st.data())
def test_folded_events_are_skipped(log, data):
    """A part of the log that is repeated, as by a resend, changes nothing.

    The part has no event whose trial or group did not exist yet: no document could store its mark.
    """
    early = {position for position, reason in project(log).dead_letters if reason.startswith("there is no ")}
    log = [each for position, each in enumerate(log) if position not in early]
    start = data.draw(st.integers(0, len(log)))
    stop = data.draw(st.integers(start, len(log)))
    whole = project(log[:stop])

    again = project([*log[:stop], *log[start:stop]])

    assert again.documents == whole.documents


@settings(max_examples=examples(100))
@given(logs(max_size=25))
def test_refused_events_change_nothing_but_the_mark(log):
    """A refused event changes nothing but its writer's mark and its outcome."""
    projection, state = Projection(), State()
    for each in copy.deepcopy(log):
        before = copy.deepcopy(projection.documents)
        refused = len(projection.dead_letters)
        projection.fold([each], state)
        if len(projection.dead_letters) > refused:
            assert unmarked(projection.documents, each) == unmarked(before, each)


def unmarked(stored, event):
    """Return the documents without the fields that a refused event may change."""
    given = {name: {uid: bson.decode(each) for uid, each in collection.items()} for name, collection in stored.items()}
    if event.request is not None:
        given["outcomes"].pop(event.outcome_id, None)
    for document in (*given["trials"].values(), *given["groups"].values()):
        if event.request is None:
            document["writers"].pop(event.writer, None)
            document.pop("lost_events")
    return comparable(given)


@settings(max_examples=examples(100))
@given(logs())
def test_size_bounds_the_document(log):
    """The accounted size of a trial is at least the size of its BSON without errors, writers and attempts."""
    projection = project(log)

    for stored in projection.documents["trials"].values():
        document = bson.decode(stored)
        apart = {"attempts", "participants", "former_participants"}
        counted = {key: each for key, each in document.items() if key not in apart} | {"errors": [], "writers": {}}
        texts = [each["host"] + (each["error"] or "") for each in document.get("participants", {}).values()]
        taken = len(bson.encode(counted)) + sum(len(each.encode()) for each in texts)
        assert taken <= document["size"]


@settings(max_examples=examples(300))
@given(st.lists(EVENTS, max_size=6), logs(max_size=4), st.data())
def test_any_event_is_folded_or_refused(wild, log, data):
    """Any event that its schema allows is folded or refused, and the documents can be stored."""
    projection, state = Projection(), State()
    projection.fold(copy.deepcopy(log), state)
    subjects = sorted([*state.trials, *state.groups]) or ["none"]
    for each in wild:
        if isinstance(each, SubjectEvent):
            setattr(each, each.SUBJECT, data.draw(st.sampled_from(subjects)))
            each.writer = data.draw(st.sampled_from(["w", each.writer]))
            each.seq = data.draw(st.sampled_from([1, 2, 2**62, 2**63 - 1, each.seq]))
            each.request = None
        for part in getattr(each, "updates", ()):
            part.trial, part.writer, part.seq, part.if_version, part.request = each.trial, each.writer, 0, None, None
        projection.fold([each], state)

    for uid, stored in projection.documents["trials"].items():
        back = documents.trial_from_document(bson.decode(stored))
        assert bson.encode(documents.trial_to_document(back)) == stored
        assert bson.encode(documents.trial_to_document(state.trials[uid])) == stored


@given(EVENTS)
def test_fold_on_an_empty_state(event):
    """An event of any type on an empty state is folded or refused."""
    try:
        fold(State(), event)
    except Refused as refused:
        assert str(refused)  # noqa: PT017 (a folded event passes too)
