"""The log in memory: its documents are those of the consumer, however the log is cut."""

from __future__ import annotations

import itertools

import bson
from hypothesis import given
from hypothesis import strategies as st
from logs import logs
from projection import project
from strategies import exact
from trialstream.event_log.topics import Route
from trialstream_consumer.memory.store import MemoryStore
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.history import Bucket
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import TrialEvent

SCHEMAS = SchemaStore()


def encoded(log):
    """Return the events that can be encoded and decoded, with their bytes."""
    for event in log:
        try:
            data = encode(event)
            yield SCHEMAS.decode(data), data
        except SchemaError:
            continue


@given(logs(), st.lists(st.integers(0, 100), max_size=4))
def test_the_store_has_the_documents_of_the_consumer(log, cuts):
    """Documents, buckets, outcomes and dead letters are those that a consumer writes to MongoDB."""
    valid = list(encoded(log))
    wanted = project([event for event, _ in valid])
    store = MemoryStore()
    reasons = []
    for start, stop in itertools.pairwise([0, *sorted(min(each, len(valid)) for each in cuts), len(valid)]):
        for is_trial, part in itertools.groupby(valid[start:stop], key=lambda each: isinstance(each[0], TrialEvent)):
            route = Route("trials" if is_trial else "registry", 0)
            reasons += store.append(route, [data for _, data in part])[1]

    assert sorted(reasons) == sorted(reason for _, reason in wanted.dead_letters)
    for collection in ("trials", "groups", "projects"):
        found = store.read(collection, lambda documents: {each["_id"]: bson.encode(each) for each in documents})
        assert found == wanted.documents[collection]
    for request in wanted.documents["outcomes"]:
        outcome, _ = store.outcome(request)
        assert bson.encode({"uid": outcome.uid, "applied": outcome.applied, "reason": outcome.reason}) == bson.encode(
            {key: x for key, x in wanted.read("outcomes", request).items() if key != "_id"}
        )
    series = [Bucket.from_document(wanted.read("series", id_)) for id_ in wanted.documents["series"]]
    uids = list(wanted.documents["trials"])
    for section in ("metrics", "chronos", "metadata"):
        found = [bucket for each in store.buckets(uids, section, []).values() for bucket in each]
        assert sorted(map(repr, map(exact, found))) == sorted(
            repr(exact(each)) for each in series if each.shape.section == section
        )
