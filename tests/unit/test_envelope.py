"""Bounds of the envelope, of reasons, and of lists of ids: what comes from outside has a bounded length."""

from __future__ import annotations

import copy
import logging

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import Dice, creation, registry, update
from trialstream.event_log.topics import Route
from trialstream.kafka.commands import new_request
from trialstream.kafka.creations import request_of_run
from trialstream.reading.pieces import pieces
from trialstream_consumer.fold import Refused, State, fold
from trialstream_consumer.memory.store import MemoryStore
from trialstream_schemas.messages import MAX_REASON, shortened
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.limits import MAX_ADDRESS, MAX_ID

LONG = "x" * 700_000
HASH = "a" * 32
GIVEN = {"trial": f"{HASH}_0", "writer": "w", "time": 0, "seq": 1}
GROUP = {"group": "b" * 32, "writer": "w", "time": 0, "request": "r"}
HOSTILE = {
    "trial": e.Heartbeat(**GIVEN | {"trial": LONG}),
    "hash": e.Heartbeat(**GIVEN | {"trial": f"{LONG}_0"}),
    "request in the address": e.Heartbeat(**GIVEN | {"trial": f"{HASH}~{LONG}"}),
    "writer": e.Heartbeat(**GIVEN | {"writer": LONG}),
    "request": e.Heartbeat(**GIVEN | {"request": LONG}),
    "empty request": e.Heartbeat(**GIVEN | {"request": ""}),
    "request of two subjects": e.Heartbeat(**GIVEN | {"request": "a~b"}),
    "request of a project": e.Heartbeat(**GIVEN | {"request": "a/project"}),
    "seq": e.Heartbeat(**GIVEN | {"seq": 2**64}),
    "time": e.Heartbeat(**GIVEN | {"time": -(2**64)}),
    "frame": e.MetricsLogged(
        **GIVEN | {"writer": LONG}, aggregator=e.AggregatorSpec("timeseries"), names=["a"], times=[0], columns=[[1.0]]
    ),
    "creation": e.TrialCreated(
        **GIVEN | {"trial": f"{HASH}~{LONG}", "request": LONG}, name="t", parameters={}, auto_increment=True
    ),
    "project": e.ProjectCreated(project=LONG, name=LONG, writer="w", time=0, request="r"),
    "group": e.GroupCreated(**GROUP | {"group": LONG}, name="g"),
    "project of a group": e.GroupCreated(**GROUP, name="g", project_id="\u00e9" * 513),
    "metadata of a group": e.GroupMetadataSet(**GROUP | {"group": LONG}, values={}),
    "log": e.LogCreated(log="l", partitions=1, time=2**70),
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_an_envelope_out_of_bounds_is_refused_by_field(what):
    """The reason names the field, at a bounded length."""
    reason = envelope_fault(HOSTILE[what])

    assert reason is not None
    assert len(reason) < 200
    assert ": expected " in reason


@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=20))
def test_what_writers_make_is_within_the_bounds(seeds):
    """No event that a writer makes, of any version, is refused for its envelope."""
    for seed in seeds:
        dice = Dice(seed)
        for event in (creation(dice), update(dice), registry(dice)):
            assert envelope_fault(event) is None


def test_the_longest_ids_are_within_the_bounds():
    """The longest writer, request, address and name are accepted."""
    request = "r" * MAX_ID
    event = e.Heartbeat(trial=f"{HASH}~{request}", writer="w" * MAX_ID, time=0, request=request)
    project = e.ProjectCreated(project="\u00e9" * 512, name="\u00e9" * 512, writer="w", time=0, request=request)
    trial = Trial(name="t")

    assert len(event.trial) < MAX_ADDRESS
    assert envelope_fault(event) is envelope_fault(project) is None
    assert envelope_fault(e.Heartbeat(**GIVEN | {"request": new_request()})) is None
    assert envelope_fault(e.Heartbeat(**GIVEN | {"request": request_of_run("run", trial)})) is None


def test_the_store_in_memory_refuses_them_too(caplog):
    """A hostile event is a dead letter there, and the events after it are folded."""
    store = MemoryStore()
    good = e.TrialCreated(
        **GIVEN | {"trial": f"{HASH}~r", "request": "r"}, name="t", parameters={}, auto_increment=True
    )
    hostile = [encode(each) for what, each in HOSTILE.items() if what not in ("seq", "time", "log")]

    _, reasons = store.append(Route("trials", 0), [*hostile, encode(good)])

    assert len(reasons) == len(hostile)
    assert max(map(len, reasons)) <= MAX_REASON
    assert store.outcome(f"{HASH}~r")[0].uid == f"{HASH}_0"


def test_reasons_of_the_fold_are_bounded():
    """The reason of a refusal, in the dead letter and in the outcome, has at most the bounded length."""
    deep = 1 << 70
    for key in ("k" * 1000,) * 60:
        deep = {key: deep}
    state = State()
    event = e.TrialCreated(
        **GIVEN | {"trial": f"{HASH}~r", "request": "r"}, name="t", parameters=copy.deepcopy(deep), auto_increment=True
    )
    with pytest.raises(Refused) as refused:
        fold(state, event)

    assert len(str(refused.value)) == len(state.outcomes[f"{HASH}~r"].reason) <= MAX_REASON


@given(st.text(max_size=300), st.integers(64, 200))
def test_shortened_texts(text, most):
    """A text that fits stays; another keeps its beginning and its end, within the length."""
    found = shortened(text, most)

    assert len(found) <= most
    if len(text) <= most:
        assert found == text
    else:
        assert found[0] == text[0]
        assert found[-1] == text[-1]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=40)), st.integers(1, 500))
def test_pieces_of_a_list(ids, most):
    """The pieces are the list, and each but a single id is within the size that BSON takes for it."""
    found = list(pieces(ids, most))

    assert [id_ for piece in found for id_ in piece] == ids
    for piece in found:
        assert piece
        assert len(piece) == 1 or len(bson.encode({"": piece})) - 12 <= most


def test_messages_of_the_logger_are_bounded(caplog):
    """A message and a traceback that trialstream logs are shortened, whatever they quote."""
    logger = logging.getLogger("trialstream")
    try:
        raise ValueError(LONG)
    except ValueError:
        logger.exception("lost %s", LONG)
    logger.warning("short %s", "message")

    long, short = caplog.records
    assert len(long.getMessage()) <= MAX_REASON
    assert len(caplog.text) < 16_000
    assert "ValueError" in caplog.text
    assert short.getMessage() == "short message"
