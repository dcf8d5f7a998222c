"""Screening of fetches, with a client in place of aiokafka's: each version of the response, and repeated fetches."""

from __future__ import annotations

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v4, FetchResponse_v10, FetchResponse_v11
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.memory_records import MemoryRecords
from raw_batches import TRANSACTIONAL, built, flagged
from trialstream.event_log.notes import note_of
from trialstream.event_log.screening import screen_fetches

FIELDS = {
    FetchResponse_v4: ((), lambda data, aborted: (9, aborted, data)),
    FetchResponse_v10: ((0, 7), lambda data, aborted: (9, 0, aborted, data)),
    FetchResponse_v11: ((0, 7), lambda data, aborted: (9, 0, aborted, -1, data)),
}


class Client(AIOKafkaClient):
    """A client whose broker returns prepared responses, the last one again and again."""

    def __init__(self, *responses):
        self.responses = list(responses)
        self.sent = []

    async def send(self, _, request):
        """Return the next response."""
        self.sent.append(request)
        return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]


def response(version, data, aborted=()):
    """Return what a broker returns of one partition."""
    session, fields = FIELDS[version]
    return version(0, *session, [("t", [(0, 0, 10, *fields(data, list(aborted)))])])


async def fetched(client):
    """Fetch from offset 0; return the values and the notes, and the fields of the partition without the data."""
    screen_fetches(client)
    screen_fetches(client)  # without effect
    found = await client.send(1, FetchRequest(0, 0, 1000, 1, [("t", [(0, 0, 1000)])]))
    [(_, [(_, _, _, *fields, data)])] = found.topics
    records, memory = [], MemoryRecords(data)
    while memory.has_next():
        records += [note_of(each) or each.value for each in memory.next_batch()]
    return records, fields


@pytest.mark.parametrize("version", FIELDS, ids=lambda version: f"v{version.API_VERSION}")
async def test_aborted_batches_are_notes_in_each_version_of_the_response(version):
    """The batches of a transaction reach aiokafka as plain ones, so it leaves out nothing by itself."""
    data = flagged(built([b"a"]), TRANSACTIONAL, 5) + flagged(built([b"b"], first=1), TRANSACTIONAL, 6)
    records, fields = await fetched(Client(response(version, data, [(5, 0)])))

    assert [getattr(records[0], "reason", "no note"), records[1]] == [None, b"b"]
    assert [] in fields
    assert (5, 0) not in fields


async def test_a_batch_that_was_damaged_on_its_way_is_fetched_again():
    """Only a batch that is damaged three times in a row becomes a note."""
    good = built([b"value"])
    client = Client(
        response(FetchResponse_v11, good.replace(b"value", b"valuf")),
        response(FetchResponse_v11, good.replace(b"value", b"valug")),
        response(FetchResponse_v11, good),
    )

    assert (await fetched(client))[0] == [b"value"]
    assert len(client.sent) == 3

    client = Client(response(FetchResponse_v11, good.replace(b"value", b"valuf")))
    [note] = (await fetched(client))[0]

    assert note.reason.endswith("its checksum is wrong")
    assert len(client.sent) == 3


async def test_a_fetch_without_records_and_other_requests_are_left_alone():
    """An error or an empty partition has no data."""
    [records, fields] = await fetched(Client(response(FetchResponse_v11, b"")))
    client = Client("metadata")
    screen_fetches(client)

    assert records == []
    assert fields == [9, 0, [], -1]
    assert await client.send(1, MetadataRequest([])) == "metadata"
