"""Errors of connections that need no server: unknown names, refused ports, and servers that never answer."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import pytest
import trialstream as ts
from trialstream.config import Config
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.ownership import live_namespace

UNKNOWN = "nowhere.invalid"


@contextmanager
def silent():
    """Yield the address of a socket that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def kafka_error(kafka, timeout=8, **settings):
    """Return the error of connecting to Kafka."""
    with pytest.raises(ts.KafkaUnavailable) as raised:
        await ts.connect(kafka=kafka, spool="off", timeout=timeout, **settings).__aenter__()
    return str(raised.value)


async def mongo_errors(mongo):
    """Return the errors of a reader and of the consumer's connection."""
    config = Config(mongo=mongo)
    async with ts.connect(mongo=mongo, read_only=True, timeout=1) as protocol:
        with pytest.raises(ts.MongoUnavailable) as raised:
            await protocol.fetch_trials()
    connection = Connection(config, 1.0)
    try:
        with pytest.raises(ts.MongoUnavailable) as consumers:
            await live_namespace(connection)
    finally:
        connection.close()
    return str(raised.value), str(consumers.value)


async def test_each_server_of_kafka_is_named_with_the_step_that_failed():
    """Of several servers, one has no address and one refuses."""
    error = await kafka_error(f"{UNKNOWN}:9092,127.0.0.1:1,[::1]:2")

    assert f"{UNKNOWN}:9092: DNS: " in error
    assert "127.0.0.1:1: connection: refused" in error
    assert "[::1]:2: connection: " in error
    assert "trialstream up" in error
    assert "TRIALSTREAM_KAFKA" in error


@pytest.mark.parametrize(("protocol", "step"), [("PLAINTEXT", "connection"), ("SSL", "TLS")])
async def test_a_silent_port_instead_of_kafka(protocol, step):
    """The connection was accepted, which the error says."""
    with silent() as address:
        assert f"{address}: {step}: " in await kafka_error(address, kafka_security_protocol=protocol, timeout=3)


async def test_each_server_of_mongodb_is_named_with_the_step_that_failed():
    """Of several members, one has no address and one refuses; the password in the URI is not shown."""
    for error in await mongo_errors(f"mongodb://ada:hunter2@{UNKNOWN},127.0.0.1:1/?replicaSet=a"):
        assert f"{UNKNOWN}:27017: DNS: " in error
        assert "127.0.0.1:1: connection: refused" in error
        assert "hunter2" not in error
        assert "TRIALSTREAM_MONGO" in error


async def test_an_unknown_name_of_a_srv_record():
    """The name is looked up in DNS first."""
    for error in await mongo_errors(f"mongodb+srv://ada:hunter2@{UNKNOWN}/"):
        assert f"{UNKNOWN}: DNS: " in error
        assert "hunter2" not in error


@pytest.mark.parametrize("options", ["", "?tls=true"])
async def test_a_silent_port_instead_of_mongodb(options):
    """The connection was accepted, which the error says."""
    with silent() as address:
        for error in await mongo_errors(f"mongodb://{address}/{options}"):
            assert f"{address}: connection: accepted" in error
