"""Errors of connections: each names the server and the step that failed, and holds no credentials."""

from __future__ import annotations

import pytest
import trialstream as ts
from service_support import cli
from trialstream.config import Config
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.ownership import live_namespace

from logins.secure_servers import PASSWORD, USER

WRONG = "hunter3"
SASL = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_username": USER}


def kafka_settings(servers, case):
    """Return the settings of a case, and what its error must match."""
    tls = {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": str(servers.ca)}
    return {
        "TLS client, plaintext server": (servers.kafka, tls, "TLS: the handshake failed"),
        "plaintext client, TLS server": (servers.kafka_tls, {}, "TLS: the server expects TLS.*kafka_security_protocol"),
        "unknown authority": (servers.kafka_tls, {**tls, "kafka_ssl_cafile": ""}, "TLS: the server's certificate is"),
        "wrong password": (servers.kafka_sasl, {**SASL, "kafka_sasl_password": WRONG}, "authentication: .*kafka_sasl_"),
        "unknown mechanism": (
            servers.kafka_sasl,
            {**SASL, "kafka_sasl_password": PASSWORD, "kafka_sasl_mechanism": "SCRAM-SHA-256"},
            "authentication: .*kafka_sasl_mechanism",
        ),
        "client without SASL": (servers.kafka_sasl, {}, "authentication: the server expects SASL"),
        "server without SASL": (servers.kafka, {**SASL, "kafka_sasl_password": PASSWORD}, "authentication: "),
        "advertised name without address": (servers.kafka_lost, {}, r"broker\.invalid:\d+ \(as Kafka.*\): DNS: "),
    }[case]


KAFKA_CASES = (
    "TLS client, plaintext server",
    "plaintext client, TLS server",
    "unknown authority",
    "wrong password",
    "unknown mechanism",
    "client without SASL",
    "server without SASL",
    "advertised name without address",
)


@pytest.mark.parametrize("case", KAFKA_CASES)
async def test_kafka(servers, case):
    """The error of connecting to Kafka names the address, the step and the settings, and no password."""
    kafka, settings, wanted = kafka_settings(servers, case)
    with pytest.raises(ts.KafkaUnavailable, match=wanted) as raised:
        await ts.connect(
            kafka=kafka, mongo="mongodb://127.0.0.1:1", prefix="a", spool="off", timeout=10, **settings
        ).__aenter__()

    assert kafka in str(raised.value)
    assert PASSWORD not in str(raised.value)
    assert WRONG not in str(raised.value)


async def test_kafka_over_tls_and_with_sasl(servers):
    """With the right settings, both listeners are used without an error."""
    tls = {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": str(servers.ca)}
    for number, (kafka, settings) in enumerate(
        [(servers.kafka_tls, tls), (servers.kafka_sasl, {**SASL, "kafka_sasl_password": PASSWORD})]
    ):
        mongo = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"
        protocol = ts.connect(kafka=kafka, mongo=mongo, prefix=f"right{number}", timeout=3, **settings)
        async with protocol:
            with pytest.warns(RuntimeWarning, match="127.0.0.1:1: connection: refused"):  # MongoDB, for the revision
                await protocol.new_trial(ts.Trial(name="a"), auto_increment=True)
            await protocol.commit("acked")


def mongo_uri(servers, case):
    """Return the URI of a case, and what its error must match."""
    tls = f"tls=true&tlsCAFile={servers.ca}&directConnection=true"
    return {
        "TLS client, plaintext server": (f"mongodb://{servers.mongo}/?{tls}", "TLS: .*TRIALSTREAM_MONGO"),
        "plaintext client, TLS server": (f"mongodb://{servers.mongo_tls}", "TLS: the server expects TLS.*tls=true"),
        "unknown authority": (f"mongodb://{servers.mongo_tls}/?tls=true", "TLS: .*certificate"),
        "wrong password": (
            f"mongodb://{USER}:{WRONG}@{servers.mongo_tls}/?{tls}",
            "authentication: .*[Aa]uth.* failed",
        ),
        "no user": (f"mongodb://{servers.mongo_tls}/?{tls}", "authentication: .*requires authentication"),
    }[case]


@pytest.mark.parametrize(
    "case",
    ["TLS client, plaintext server", "plaintext client, TLS server", "unknown authority", "wrong password", "no user"],
)
async def test_mongodb(servers, case):
    """The errors of readers and of the consumer name the address, the step and the settings, and no password."""
    uri, wanted = mongo_uri(servers, case)
    async with ts.connect(mongo=uri, prefix="a", read_only=True, timeout=2) as protocol:
        with pytest.raises(ts.MongoUnavailable, match=wanted) as raised:
            await protocol.fetch_trials()
    connection = Connection(Config(mongo=uri), 2.0)
    try:
        with pytest.raises(ts.MongoUnavailable, match=wanted) as consumers:
            await live_namespace(connection)
    finally:
        connection.close()

    for each in (raised, consumers):
        assert (servers.mongo_tls if "server.pem" in uri else "127.0.0.1:") in str(each.value)
        assert PASSWORD not in str(each.value)
        assert WRONG not in str(each.value)


async def test_mongodb_with_the_right_user(servers):
    """With the right settings, MongoDB is read over TLS."""
    uri = f"mongodb://{USER}:{PASSWORD}@{servers.mongo_tls}/?tls=true&tlsCAFile={servers.ca}&directConnection=true"
    async with ts.connect(mongo=uri, prefix="a", read_only=True) as protocol:
        assert await protocol.fetch_trials() == []


def test_commands(servers, stack):
    """`trialstream consume` ends with one line that says so, for either server."""
    sasl = {f"TRIALSTREAM_{key.upper()}": each for key, each in {**SASL, "kafka_sasl_password": WRONG}.items()}
    found = cli(Config(kafka=servers.kafka_sasl, mongo=stack.mongo.uri, prefix="a"), "consume", environment=sasl)
    assert found.returncode == 1
    assert f"{servers.kafka_sasl}: authentication: " in found.stderr.splitlines()[-1]

    found = cli(Config(kafka=servers.kafka, mongo=f"mongodb://{servers.mongo_tls}", prefix="a"), "consume")
    assert found.returncode == 1
    assert f"{servers.mongo_tls}: TLS: " in found.stderr.splitlines()[-1]
    assert WRONG not in found.stderr
