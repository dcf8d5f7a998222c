"""The documents of projects, groups, trials and buckets restore them."""

from __future__ import annotations

import dataclasses

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from strategies import DICTS, FLOATS, INT64, NAMES, TEXTS, TIMES, VALUES, exact
from trialstream_schemas.model.aggregators import RingAggregator, StatAggregator, TimeSeriesAggregator, ValueAggregator
from trialstream_schemas.model.attempts import FormerParticipant, Participant, TrialAttempt
from trialstream_schemas.model.history import Bucket, Rows, Shape
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.model.trial import Project, Trial, TrialError, TrialGroup
from trialstream_schemas.storage import documents, outcomes

# Larger integers are restored as bson.Int64, which is an int too.
COUNTS = st.integers(0, 2**31 - 1)
WRITERS = st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), COUNTS, max_size=3)
MOMENTS = st.none() | TIMES.map(from_micros)
STATUSES = st.sampled_from(Status) | st.builds(
    CustomStatus, NAMES.filter(lambda name: name not in Status.__members__), INT64
)


@st.composite
def aggregators(draw):
    """Return an aggregator of any kind, with observations."""
    made = draw(
        st.sampled_from(
            [
                ValueAggregator.lazy(),
                StatAggregator.lazy(),
                StatAggregator.lazy(2),
                RingAggregator.lazy(2),
                TimeSeriesAggregator.lazy(),
                TimeSeriesAggregator.lazy("min"),
            ]
        )
    )()
    made.extend(draw(st.lists(FLOATS, max_size=4)), draw(st.none() | INT64 | FLOATS | TEXTS))
    return made


AGGREGATED = st.dictionaries(NAMES, aggregators(), max_size=3)
PROJECTS = st.builds(
    Project, name=NAMES.filter(bool), description=TEXTS, metadata=DICTS, tags=DICTS, created=MOMENTS
)  # fmt: skip
GROUPS = st.builds(
    TrialGroup,
    name=NAMES.filter(bool),
    project_id=st.none() | NAMES,
    description=TEXTS,
    metadata=DICTS,
    tags=DICTS,
    created=MOMENTS,
    state_version=COUNTS,
    writers=WRITERS,
    lost_events=COUNTS,
)
RANKS = st.none() | st.integers(0, 2047)


def attempted(trial, attempts, participants, former):
    """Return a trial with attempts and participants of them; a trial without attempts has no participants."""
    trial.attempts = [dataclasses.replace(each, number=i) for i, each in enumerate(attempts, 1)]
    if attempts:
        trial.participants, trial.former_participants = participants, former
    return trial


ATTEMPTS = st.builds(
    TrialAttempt,
    key=NAMES,
    number=st.just(1),
    started=TIMES.map(from_micros),
    resume_step=st.none() | COUNTS | st.floats(allow_nan=False),
    world_size=st.none() | COUNTS,
)
PARTICIPANTS = st.builds(
    Participant,
    attempt=COUNTS,
    rank=RANKS,
    host=NAMES,
    joined=TIMES.map(from_micros),
    last_seen=TIMES.map(from_micros),
    status=st.sampled_from(Status),
    error=st.none() | TEXTS,
)
PLAIN_TRIALS = st.builds(
    Trial,
    hash=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    revision=COUNTS,
    name=NAMES.filter(bool),
    version=st.none() | NAMES,
    description=TEXTS,
    project_id=st.none() | NAMES,
    group_id=st.none() | NAMES,
    parameters=DICTS,
    metadata=st.dictionaries(NAMES, VALUES | aggregators(), max_size=3),
    tags=DICTS,
    metrics=AGGREGATED,
    chronos=AGGREGATED,
    open_chronos=st.dictionaries(NAMES, COUNTS, max_size=3),
    failed_chronos=st.dictionaries(NAMES, COUNTS, max_size=3),
    status=STATUSES,
    errors=st.lists(st.builds(TrialError, TEXTS, TEXTS, TEXTS, TIMES.map(from_micros)), max_size=3),
    errors_dropped=COUNTS,
    starts=COUNTS,
    created=MOMENTS,
    started=MOMENTS,
    finished=MOMENTS,
    last_seen=MOMENTS,
    writers=WRITERS,
    lost_events=COUNTS,
    state_version=COUNTS,
    rows=COUNTS,
    size=COUNTS,
)
TRIALS = st.builds(
    attempted,
    PLAIN_TRIALS,
    st.lists(ATTEMPTS, max_size=3),
    st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), PARTICIPANTS, max_size=3),
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), st.builds(FormerParticipant, COUNTS, RANKS), max_size=3
    ),
)
OUTCOMES = st.builds(
    Outcome, id=NAMES, uid=st.none() | NAMES, applied=st.booleans(), reason=st.none() | TEXTS
)  # fmt: skip


@pytest.mark.parametrize(
    ("structures", "to_document", "from_document"),
    [
        pytest.param(PROJECTS, documents.project_to_document, documents.project_from_document, id="Project"),
        pytest.param(GROUPS, documents.group_to_document, documents.group_from_document, id="TrialGroup"),
        pytest.param(TRIALS, documents.trial_to_document, documents.trial_from_document, id="Trial"),
        pytest.param(OUTCOMES, outcomes.outcome_to_document, outcomes.outcome_from_document, id="Outcome"),
    ],
)
@settings(max_examples=examples(75))
@given(data=st.data())
def test_structure_comes_back(structures, to_document, from_document, data):
    """Any structure and its document restore each other, to the byte, through real BSON."""
    structure = data.draw(structures)

    stored = bson.encode(to_document(structure))
    back = from_document(bson.decode(stored))

    assert stated(back) == stated(structure)
    assert bson.encode(to_document(back)) == stored


def stated(structure):
    """Return all fields in a form in which NaN equals NaN; aggregators by their state."""
    return [
        (each.name, stated_value(getattr(structure, each.name)))
        for each in dataclasses.fields(structure)
    ]  # fmt: skip


def stated_value(x):
    """Return one field in the form of `stated`."""
    if isinstance(x, dict):
        return [(key, stated_value(each)) for key, each in x.items()]
    if hasattr(x, "to_json"):
        return exact(x.to_json())
    return exact(x)


SHAPES = st.builds(
    Shape,
    st.sampled_from(["metrics", "chronos", "metadata"]),
    st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple),
    st.sampled_from(["int", "float", "text", "none"]),
)


@given(SHAPES, st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=4), st.data())
def test_bucket_comes_back(shape, logged, data):
    """The document of a bucket restores it, to the byte, through BSON."""
    bucket = Bucket("t_0", shape)
    steps = {"int": INT64, "float": FLOATS, "text": NAMES, "none": st.none()}[shape.steps]
    first = 0
    for writer, n in logged:
        drawn = st.lists(steps, min_size=n, max_size=n)
        columns = [data.draw(st.lists(FLOATS, min_size=n, max_size=n)) for _ in shape.names]
        times = data.draw(st.lists(TIMES, min_size=n, max_size=n))
        rows = Rows(shape, first, writer, () if shape.steps == "none" else data.draw(drawn), times, columns)
        assert list(bucket.append(rows)) == []
        first += n + data.draw(st.integers(0, 1))

    stored = bson.encode(bucket.to_document(full=False))
    back = Bucket.from_document(bson.decode(stored))

    assert bson.encode(back.to_document(full=False)) == stored
    assert (back.shape, back.number, back.spans, len(back)) == (shape, 0, bucket.spans, len(bucket))
