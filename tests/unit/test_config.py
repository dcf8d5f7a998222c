"""Settings from arguments and from the environment, and their checks."""

from __future__ import annotations

import dataclasses
import re
import ssl
from pathlib import Path

import numpy as np
import pytest
from trialstream.config import Config
from trialstream_schemas.errors import ConfigError
from trialstream_schemas.storage.collections import COLLECTIONS


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """Remove all settings from the environment of the test."""
    for field in dataclasses.fields(Config):
        monkeypatch.delenv(f"TRIALSTREAM_{field.name.upper()}", raising=False)


def test_the_defaults_lead_to_the_local_stack():
    """Without settings, the addresses are those of servers on this machine."""
    config = Config.from_env()

    assert config == Config()
    assert config.kafka == "127.0.0.1:9092"
    assert config.mongo.startswith("mongodb://127.0.0.1:27017/")


def test_every_setting_can_come_from_the_environment(monkeypatch):
    """Every setting is read from `TRIALSTREAM_` and its name in capitals, and converted to its type."""
    given = {"int": 2**30, "float": 0.5, "bool": True}
    wanted = {each.name: given.get(each.type, f"given-{each.name}") for each in dataclasses.fields(Config)}
    wanted |= {"mongo": "mongodb://a", "prefix": "p-1_A", "kafka_security_protocol": "SASL_SSL"}
    wanted |= {"spool": "always", "when_full": "raise", "kafka_sasl_mechanism": "SCRAM-SHA-256"}
    wanted |= {"replication": 3, "kafka_token": None}  # a function, which no text is
    for name, value in wanted.items():
        monkeypatch.setenv(f"TRIALSTREAM_{name.upper()}", str(value))

    assert dataclasses.asdict(Config.from_env()) == wanted


def test_arguments_come_before_the_environment(monkeypatch):
    """An argument takes precedence over the environment, unless it is None."""
    monkeypatch.setenv("TRIALSTREAM_KAFKA", "a:1")
    monkeypatch.setenv("TRIALSTREAM_PREFIX", "env")
    config = Config.from_env(kafka="b:2", prefix=None)

    assert (config.kafka, config.prefix) == ("b:2", "env")


def test_names_of_topics_database_and_group_follow_the_prefix():
    """The names of topics, database and consumer group are derived from the prefix."""
    config = Config(prefix="lab")

    assert (config.trials_topic, config.registry_topic, config.schemas_topic) == (
        "lab.trials",
        "lab.registry",
        "lab.schemas",
    )
    assert (config.database, config.consumer_group) == ("lab", "lab.fold")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param({"prefix": ""}, "prefix", id="an empty prefix"),
        pytest.param({"prefix": "a.b"}, "prefix", id="a prefix with a dot"),
        pytest.param({"prefix": "a~1"}, "prefix", id="a prefix like an earlier projection"),
        pytest.param({"prefix": "a b"}, "prefix", id="a prefix with a space"),
        pytest.param({"prefix": "é"}, "prefix", id="a prefix with an accent"),
        pytest.param({"prefix": "a\n"}, "prefix", id="a prefix with a line break"),
        pytest.param({"prefix": "x" * 49}, "prefix", id="a long prefix"),
        pytest.param({"kafka": ""}, "kafka", id="no broker"),
        pytest.param({"mongo": "http://a"}, "mongo", id="another kind of URI"),
        pytest.param({"partitions": 0}, "partitions", id="no partitions"),
        pytest.param({"replication": -1}, "replication", id="less than one replica"),
        pytest.param({"kafka_security_protocol": "TLS"}, "kafka_security_protocol", id="an unknown kind of security"),
        pytest.param({"kafka_security_protocol": "GSSAPI"}, "kafka_security_protocol", id="a mechanism as a protocol"),
        pytest.param({"kafka_sasl_mechanism": "GSSAPI"}, "kafka_sasl_mechanism", id="a mechanism without a client"),
        pytest.param({"kafka": "host:abc"}, "kafka.*'host:abc'", id="a port of letters"),
        pytest.param({"kafka": "host:99999"}, "kafka", id="a port above 65535"),
        pytest.param({"kafka": "host:0"}, "kafka", id="port 0"),
        pytest.param({"kafka": "host:-1"}, "kafka", id="a negative port"),
        pytest.param({"kafka": "host:"}, "kafka", id="an empty port"),
        pytest.param({"kafka": "a:1,,b:1"}, "kafka", id="an empty server"),
        pytest.param({"kafka": "a:1,b:x"}, "kafka.*'b:x'", id="a bad second server"),
        pytest.param({"kafka": "http://a:1"}, "kafka", id="a URI of a broker"),
        pytest.param({"kafka": "a..b:1"}, "kafka", id="a host with an empty label"),
        pytest.param({"kafka": "[::1:9092"}, "kafka", id="an open bracket"),
        pytest.param({"kafka": "[a]:9092"}, "kafka", id="a name in brackets"),
        pytest.param({"partitions": 2**31}, "partitions", id="more partitions than Kafka can count"),
        pytest.param({"replication": 2**15}, "replication", id="more replicas than Kafka can count"),
        pytest.param({"block_seconds": float("nan")}, "block_seconds", id="NaN seconds"),
        pytest.param({"block_seconds": 10**400}, "block_seconds.*got int", id="a number above all floats"),
        pytest.param({"spool_dir": "~no-such-user/x"}, "spool_dir.*~no-such-user", id="a home of nobody"),
    ],
)
def test_invalid_settings_are_refused(given, named):
    """An invalid setting is a ConfigError that names the setting."""
    with pytest.raises(ConfigError, match=named):
        Config(**given)


@pytest.mark.parametrize(
    "servers", ["a", "a:1", "a:1, b:65535", "127.0.0.1:1", "::1", "[::1]", "[::1]:9092", "bücher:1"]
)
def test_servers_of_every_form(servers):
    """A server is a host name or an address, with or without a port."""
    assert Config(kafka=servers).kafka == servers


@pytest.mark.parametrize("each", [pytest.param(each, id=each.name) for each in dataclasses.fields(Config)])
def test_values_of_another_type_are_refused(each):
    """A value of another type is a ConfigError that names the setting, and that shows no secret."""
    wrong = {
        "str": (7, None, b"hunter2", Path("x"), "a\0b", "\ud800"),
        "FilePath": (7, None, b"b", "a\0b"),
        "int": ("8", 8.0, None, True),
        "float": ("1", None, True, 1j),
        "bool": ("no", 1, None),
        "Tokens": ("hunter2", b"hunter2", 7),
    }
    for value in wrong[each.type]:
        with pytest.raises(ConfigError, match=f"^{each.name}: expected ") as caught:
            Config(**{each.name: value})
        assert each.repr or "hunter2" not in str(caught.value)


def test_numbers_and_paths_of_other_classes():
    """Numbers of numpy and paths of pathlib are taken as plain numbers and texts."""
    config = Config(partitions=np.int32(4), block_seconds=np.float32(0.5), spool_dir=Path("/x"), memory_bytes=2**30)

    assert (config.partitions, config.block_seconds, config.spool_dir) == (4, 0.5, "/x")
    assert [type(each) for each in (config.partitions, config.block_seconds, config.spool_dir)] == [int, float, str]
    assert type(Config(block_seconds=2).block_seconds) is float


@pytest.mark.parametrize("text", ["", "four", "4.5"])
def test_text_in_place_of_a_number_in_the_environment_is_refused(monkeypatch, text):
    """Text in place of a number is a ConfigError with the name of the variable and its value."""
    monkeypatch.setenv("TRIALSTREAM_PARTITIONS", text)

    with pytest.raises(ConfigError, match="TRIALSTREAM_PARTITIONS") as caught:
        Config.from_env()
    assert repr(text) in str(caught.value)


def test_secrets_are_not_shown():
    """The SASL password and the MongoDB URI, which may hold one, are in no repr and in no error about a bad URI."""
    config = Config(kafka_sasl_password="hunter2", mongo="mongodb://ada:hunter2@a")
    with pytest.raises(ConfigError) as caught:
        Config(mongo="ada:hunter2@a")

    with pytest.raises(ConfigError) as of_kafka:
        Config(kafka="kafka://ada:hunter2@a:1")

    assert "hunter2" not in repr(config) + str(config) + str(caught.value) + str(of_kafka.value)


def test_plain_connections():
    """Without TLS and SASL, the arguments for Kafka's client have no setting of either."""
    client = Config(kafka="a:1,b:2").kafka_client()

    assert (client["bootstrap_servers"], client["security_protocol"]) == ("a:1,b:2", "PLAINTEXT")
    assert not {key for key in client if key.startswith(("ssl", "sasl"))}


def test_sasl_connections():
    """Mechanism, user and password are passed on to Kafka's client, with PLAIN as the default mechanism."""
    user = {"kafka_sasl_username": "ada", "kafka_sasl_password": "hunter2"}
    plain = Config(kafka_security_protocol="SASL_PLAINTEXT", **user).kafka_client()
    scram = Config(kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism="SCRAM-SHA-512", **user).kafka_client()

    assert (plain["sasl_mechanism"], plain["sasl_plain_username"], plain["sasl_plain_password"]) == (
        "PLAIN",
        "ada",
        "hunter2",
    )
    assert "ssl_context" not in plain
    assert scram["sasl_mechanism"] == "SCRAM-SHA-512"
    assert isinstance(scram["ssl_context"], ssl.SSLContext)


def test_tls_connections():
    """With TLS, the certificates and host names of servers are checked."""
    system = Config(kafka_security_protocol="SSL").kafka_client()["ssl_context"]

    assert system.verify_mode is ssl.CERT_REQUIRED
    assert system.check_hostname


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param({"kafka_ssl_cafile": "/nowhere.pem"}, "kafka_ssl_cafile.*nowhere", id="a missing authority"),
        pytest.param({"kafka_ssl_cafile": __file__}, "kafka_ssl_cafile.*test_config", id="no certificate"),
        pytest.param({"kafka_ssl_certfile": "/nowhere.pem"}, "kafka_ssl_certfile.*nowhere", id="a missing certificate"),
    ],
)
def test_certificates_that_cannot_be_read(given, named):
    """A certificate file that cannot be read is a ConfigError with the setting and the file."""
    config = Config(kafka_security_protocol="SSL", **given)

    with pytest.raises(ConfigError, match=named):
        config.kafka_client()


@pytest.mark.parametrize("name", ["july", "a", "u260701T120000", "x" * 64])
def test_a_named_projection_lies_beside_the_live_one(name):
    """A named projection has collections of its own in the database of the prefix."""
    config = Config(prefix="lab", projection=name)

    assert config.named_projection == ("lab", f"~{name}")
    assert config.database == "lab"


@pytest.mark.parametrize(
    "name", ["1", "1st", "12", "_a", "a b", "a.b", ".a", "a~b", "~1", "a$b", "$a", "é", "٣", "a\n", "x" * 65]
)
def test_a_projection_name_that_cannot_end_the_name_of_a_collection_is_refused(name):
    """Numbers belong to rebuilds, and `~`, `.` and `$` mean something in names: the error has the allowed form."""
    wanted = rf"projection: expected a letter.* 64 characters at most, got {re.escape(repr(name))}"
    with pytest.raises(ConfigError, match=wanted):
        Config(prefix="lab", projection=name)


def test_the_longest_prefix_and_name_fit_the_name_of_a_collection():
    """MongoDB limits the name of a collection, with its database, to 255 bytes, and to 235 in a sharded cluster."""
    config = Config(prefix="p" * 48, projection="x" * 64)
    place = config.named_projection

    assert max(len(f"{place.database}.{place.collection(each)}") for each in COLLECTIONS) <= 235
