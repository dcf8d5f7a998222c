"""Events of earlier releases and of this one: each version reads what any other wrote."""

from __future__ import annotations

import copy
import io

import fastavro
import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import logs
from model import comparable, expected, meaning, reading
from profiles import examples
from projection import project
from released import PLAIN, RELEASED, STORE, fields_of, known, read, versions, written
from strategies import events_of, exact
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model import history as series
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.wire.codec import HEADER_BYTES, encode, record_of
from trialstream_schemas.wire.events import EVENTS, PARTS


@settings(max_examples=examples(200))
@given(logs(max_size=40), st.data())
def test_a_log_of_several_releases_is_folded(log, data):
    """A log in which each event was written by any release folds to the meaning of the events that were written."""
    chosen = [data.draw(st.sampled_from(versions(each))) for each in log]
    older = sum(version != versions(each)[-1] for each, version in zip(log, chosen, strict=True))
    note(f"events of earlier schemas: {min(older, 3)}")

    decoded = [STORE.decode(written(each, version)) for each, version in zip(log, chosen, strict=True)]
    projection = project(decoded)

    world = expected(meaning([known(copy.deepcopy(each), version) for each, version in zip(log, chosen, strict=True)]))
    found = reading(projection.documents, projection.dead_letters, series.MAX_ROWS)
    assert comparable(found) == comparable(world)


EVERY_VERSION = pytest.mark.parametrize(
    ("event", "version"),
    [
        pytest.param(each, version, id=f"{each.__name__} {version.hex()}")
        for each in EVENTS
        for version in RELEASED[each.__name__]
    ],
)


@EVERY_VERSION
@settings(max_examples=examples(25))
@given(data=st.data())
def test_an_event_is_read_by_the_readers_of_every_release(event, version, data):
    """A reader with the schema of any release reads its fields from the bytes that this version writes."""
    sent = data.draw(events_of(event))
    record = record_of(sent)

    found = read(encode(sent), version)

    assert list(found) == fields_of(sent, version)
    found["time"] = to_micros(found["time"])
    assert plain(found) == plain({name: record[name] for name in found})


# Reasons for which bytes are refused that fastavro reads, as another value or without a bound.
_STRICTER = ("has no index", "more than 64 bits", f"{2**63} items")


@EVERY_VERSION
@settings(max_examples=examples(100))
@given(data=st.data())
def test_an_event_is_decoded_as_fastavro_reads_it(event, version, data):
    """Any bytes of any version become the event of what fastavro reads, or are refused where it cannot read them."""
    sent = bytearray(written(data.draw(events_of(event)), version))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(HEADER_BYTES, len(sent)))
        sent[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    body = io.BytesIO(sent[HEADER_BYTES:])
    try:
        record = fastavro.schemaless_reader(body, PLAIN[version], None)
        assert not body.read(), "left over"
    except Exception:  # noqa: BLE001 (fastavro raises errors of any type)
        record = None
    try:
        found = STORE.decode(bytes(sent))
    except SchemaError as error:
        note("refused")
        is_refused = record is None or any(each in str(error) for each in _STRICTER)
        assert is_refused or not all(map(is_update, record.get("updates", [])))
        return
    assert record is not None
    read = record_of(found)
    if "updates" in record:
        read["updates"] = [plain(record_of(each)) for each in found.updates]
        record["updates"] = [plain(record_of(STORE.decode(each))) for each in record["updates"]]
    assert plain({name: read[name] for name in record}) == plain(record)
    assert found == known(found, version)


def is_update(data):
    """Whether bytes are an update by themselves."""
    try:
        return isinstance(STORE.decode(data), PARTS)
    except SchemaError:
        return False


def plain(x):
    """Return a form of a record with exact equality, in which arrays and tuples are lists."""
    if isinstance(x, dict):
        return {key: plain(each) for key, each in x.items()}
    if isinstance(x, str | bytes) or not hasattr(x, "__iter__"):
        return exact(x)
    return [plain(each) for each in x]
