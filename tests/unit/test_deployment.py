"""Answers of servers to `hello`, and whether consumers can use these servers."""

from __future__ import annotations

import pytest
import trialstream as ts
from trialstream_consumer.projection.deployment import problem

# Answers of mongod and mongos, without the fields that do not matter here; 17 is the wire version of MongoDB 6.0.
STANDALONE = {"isWritablePrimary": True, "maxWireVersion": 17, "logicalSessionTimeoutMinutes": 30}
PRIMARY = {**STANDALONE, "setName": "trialstream", "me": "db:27017", "hosts": ["db:27017"]}
SECONDARY = {**PRIMARY, "isWritablePrimary": False, "secondary": True}
ARBITER = {"setName": "trialstream", "arbiterOnly": True, "maxWireVersion": 17}
STARTING = {**ARBITER, "arbiterOnly": False, "isWritablePrimary": False, "secondary": False}
UNINITIATED = {"isWritablePrimary": False, "isreplicaset": True, "maxWireVersion": 17}
MONGOS = {**STANDALONE, "msg": "isdbgrid"}


@pytest.mark.parametrize(
    ("hello", "replica_set"),
    [
        pytest.param(PRIMARY, "trialstream", id="primary"),
        pytest.param(PRIMARY, None, id="primary, direct connection"),
        pytest.param(SECONDARY, "trialstream", id="secondary"),
        pytest.param(ARBITER, "trialstream", id="arbiter"),
        pytest.param(STARTING, "trialstream", id="member that is starting"),
        pytest.param(MONGOS, None, id="mongos"),
        pytest.param({**PRIMARY, "maxWireVersion": 13}, None, id="MongoDB 5.0"),
    ],
)
def test_servers_that_can_be_used_or_may_become_usable(hello, replica_set):
    """A member of a replica set is never refused, since another one may be or become the primary."""
    assert problem("db:27017", hello, replica_set) is None


@pytest.mark.parametrize(
    ("hello", "replica_set", "words"),
    [
        pytest.param(
            STANDALONE, None, ["a replica set", "standalone server", "--replSet trialstream"], id="standalone"
        ),
        pytest.param(
            STANDALONE, "rs0", ["--replSet rs0", "rs.initiate()", "replicaSet=rs0"], id="standalone, named set"
        ),
        pytest.param({**PRIMARY, "maxWireVersion": 9}, None, ["5.0 or newer", "upgrade"], id="MongoDB 4.4"),
        pytest.param({**MONGOS, "maxWireVersion": 7}, None, ["5.0 or newer"], id="mongos without transactions"),
        pytest.param({"ismaster": True}, None, ["5.0 or newer"], id="no wire version"),
        pytest.param(PRIMARY, "rs0", ["replica set 'rs0'", "replica set 'trialstream'"], id="another set"),
        pytest.param(MONGOS, "rs0", ["replica set 'rs0'", "a sharded cluster"], id="mongos, named set"),
    ],
)
def test_servers_that_are_refused(hello, replica_set, words):
    """The error names the setting, what was expected, the server, and what to do."""
    found = problem("db:27017", hello, replica_set)

    assert isinstance(found, ts.ConfigError)
    assert str(found).startswith("mongo: expected ")
    for word in [*words, "db:27017"]:
        assert word in str(found)


def test_a_set_that_is_not_initiated_is_unavailable():
    """It is no wrong setting, but becomes usable; the message says by what."""
    found = problem("db:27017", UNINITIATED, "trialstream")

    assert isinstance(found, ts.MongoUnavailable)
    assert "run rs.initiate()" in str(found)
