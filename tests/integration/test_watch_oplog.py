"""A watch whose cursor is older than MongoDB's oplog, on a mongod with a small one."""

from __future__ import annotations

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from pymongo import MongoClient
from test_watch import following, next_batch
from trialstream_console.local.mongo import MongoServer
from trialstream_console.local.ports import Ports
from trialstream_schemas.storage.documents import trial_to_document

PREFIX = "oplog"


class SmallServer(MongoServer):
    """A mongod with an oplog of a megabyte, which it cuts at each checkpoint, every second."""

    def _command(self):
        command = [*super()._command(), "--syncdelay", "1"]
        command[command.index("--oplogSize") + 1] = "1"
        return command


@pytest.fixture
def server(tmp_path):
    """Such a mongod."""
    server = SmallServer(tmp_path, Ports.free())
    server.start()
    yield server
    server.stop()


def overwrite(client):
    """Write until the oplog does not begin any more where it began."""
    oplog = client.local["oplog.rs"]
    first = oplog.find_one(sort=[("$natural", 1)])["ts"]
    filler, n = "x" * 500_000, 0
    while oplog.find_one(sort=[("$natural", 1)])["ts"] == first:
        n += 1
        client.filler.c.replace_one({"_id": 0}, {"_id": 0, "n": n, "filler": filler}, upsert=True)


async def test_a_cursor_that_is_older_than_the_oplog(server):
    """Everything comes again, also what has changed since the cursor; the watch goes on from there."""
    arguments = {"mongo": server.uri, "prefix": PREFIX}
    documents = [trial_to_document(ts.Trial(name="t", parameters={"n": n})) for n in range(3)]
    with MongoClient(server.uri) as client:
        trials = client[PREFIX].trials
        trials.insert_many(documents)
        async with ts.watch(since="now", **arguments) as watch:
            cursor = watch.cursor
        trials.update_one({"_id": documents[0]["_id"]}, {"$set": {"tags": {"x": 1}}})
        with anyio.fail_after(60):
            await run_sync(overwrite, client)
        async with ts.watch(since=cursor, **arguments) as watch:
            found = await next_batch(watch)
            trials.update_one({"_id": documents[1]["_id"]}, {"$set": {"tags": {"x": 2}}})
            [change] = await following(watch)

    assert found.reset
    assert {each.uid: each.trial.tags for each in found.changes} == {
        each["_id"]: {"x": 1} if each is documents[0] else {} for each in documents
    }
    assert change.trial.tags == {"x": 2}
