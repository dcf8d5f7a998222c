"""docker-compose.yml and the Dockerfile, checked as data without a Docker engine."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from trialstream.config import Config

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
KAFKA: dict[str, Any] = SERVICES["kafka"]["environment"]
SETTINGS = {f"TRIALSTREAM_{each.name.upper()}" for each in fields(Config)}

# Only the keys of the Compose specification (https://compose-spec.io) that the file uses. A misspelled key, which the
# engine ignores or refuses, fails here.
DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}
ARGUMENTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
HEALTH_CHECK = {
    "type": "object",
    "properties": {
        "test": ARGUMENTS | {"items": [{"enum": ["CMD", "CMD-SHELL"]}], "additionalItems": {"type": "string"}},
        "interval": DURATION,
        "timeout": DURATION,
        "start_period": DURATION,
        "retries": {"type": "integer", "minimum": 1},
    },
    "required": ["test", "interval", "timeout", "retries"],
    "additionalProperties": False,
}
SERVICE = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "pattern": r"^[a-z0-9/_-]+:[A-Za-z0-9._-]+$"},
        "build": {"type": "string"},
        "hostname": {"type": "string"},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "init": {"type": "boolean"},
        "command": ARGUMENTS,
        # In an environment, YAML's true and false must be quoted.
        "environment": {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^[a-z-]+:/[a-z/]+$"}},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "condition": {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
                },
                "required": ["condition"],
                "additionalProperties": False,
            },
        },
        "healthcheck": HEALTH_CHECK,
        "stop_grace_period": DURATION,
    },
    "anyOf": [{"required": ["image"]}, {"required": ["build"]}],
    "additionalProperties": False,
}
SPECIFICATION = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
    },
    "required": ["services"],
    "additionalProperties": False,
}


def listeners(property_: str) -> dict[str, str]:
    """Return the addresses by listener name of a property like `A://host:1,B://:2`."""
    return dict(each.split("://") for each in KAFKA[property_].split(","))


def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions and their arguments, in order."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_file_follows_the_compose_specification():
    """Every key is one of the specification, with a value of the required form."""
    jsonschema.validate(COMPOSE, SPECIFICATION)


def test_nothing_is_interpolated():
    """The file has no `$`, which would insert variables of the caller's shell, such as TRIALSTREAM_KAFKA."""
    assert "$" not in json.dumps(COMPOSE)


def test_the_stack_is_kafka_mongodb_and_the_consumer():
    """The services are pinned images of Kafka 4 and of MongoDB 7 or 8, and the consumer of the Dockerfile."""
    assert set(SERVICES) == {"kafka", "mongo", "consumer"}
    assert re.fullmatch(r"apache/kafka:4\.\d+\.\d+", SERVICES["kafka"]["image"])
    assert re.fullmatch(r"mongo:[78]\.\d+", SERVICES["mongo"]["image"])
    assert SERVICES["consumer"]["build"] == "."
    assert SERVICES["consumer"]["image"].endswith(f":{PYPROJECT['project']['version']}")


def test_only_the_two_servers_are_published_and_on_loopback():
    """Only Kafka and MongoDB have ports, at the default addresses of `Config` and on loopback only."""
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}

    assert published == {"kafka": ["127.0.0.1:9092:9092"], "mongo": ["127.0.0.1:27017:27017"], "consumer": []}
    assert Config().kafka == "127.0.0.1:9092"
    assert urlsplit(Config().mongo).netloc == "127.0.0.1:27017"


def test_every_service_has_a_health_check():
    """Every service has a health check, so that `docker compose up --wait` returns when all are healthy."""
    assert all("healthcheck" in service for service in SERVICES.values())


def test_the_consumers_health_check_is_a_script_that_compiles():
    """The consumer's health check is a valid script that uses the settings of the service."""
    [*command, script] = SERVICES["consumer"]["healthcheck"]["test"]

    assert command == ["CMD", "python", "-c"]
    compile(script, "healthcheck", "exec")
    assert "Config.from_env()" in script
    assert "config.consumer_group" in script


def test_the_consumer_waits_until_both_servers_are_healthy():
    """The consumer waits for healthy servers, since the health check of MongoDB initiates the replica set."""
    assert SERVICES["consumer"]["depends_on"] == {
        "kafka": {"condition": "service_healthy"},
        "mongo": {"condition": "service_healthy"},
    }


def test_data_lies_in_declared_volumes():
    """The log and the documents are in declared volumes, so that they outlive the containers."""
    used = [each.split(":") for service in SERVICES.values() for each in service.get("volumes", [])]

    assert {name for name, _ in used} == set(COMPOSE["volumes"])
    assert KAFKA["KAFKA_LOG_DIRS"] in {path for _, path in used}
    assert {"/data/db", "/data/configdb"} < {path for _, path in used}


# --- The consumer's settings


def test_every_setting_of_the_consumer_is_a_field_of_the_configuration():
    """Every TRIALSTREAM_ variable of the consumer is a setting, since any other variable would have no effect."""
    given = SERVICES["consumer"]["environment"]

    assert {name for name in given if name.startswith("TRIALSTREAM_")} <= SETTINGS
    assert {"TRIALSTREAM_KAFKA", "TRIALSTREAM_MONGO", "TRIALSTREAM_PREFIX"} <= set(given)


def test_the_settings_lead_to_the_two_services(monkeypatch: pytest.MonkeyPatch):
    """The consumer's settings are valid and name the listener for containers and the only member of the replica set."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, text in SERVICES["consumer"]["environment"].items():
        monkeypatch.setenv(name, str(text))

    config = Config.from_env()

    assert config.kafka == listeners("KAFKA_ADVERTISED_LISTENERS")["INSIDE"]
    mongo = urlsplit(config.mongo)
    assert (mongo.hostname, mongo.port, mongo.query) == ("mongo", 27017, "replicaSet=trialstream")
    assert config.trials_topic == "trialstream.trials"


# --- Kafka


@pytest.mark.parametrize(
    ("property_", "wanted"),
    [
        pytest.param("offsets.topic.replication.factor", 1, id="the offsets topic has one replica"),
        pytest.param("transaction.state.log.replication.factor", 1, id="the transaction topic has one replica"),
        pytest.param("transaction.state.log.min.isr", 1, id="one replica of the transaction topic must be in sync"),
        pytest.param("share.coordinator.state.topic.replication.factor", 1, id="the share topic has one replica"),
        pytest.param("share.coordinator.state.topic.min.isr", 1, id="one replica of the share topic must be in sync"),
        pytest.param("group.initial.rebalance.delay.ms", 0, id="the first consumer starts without a delay"),
        pytest.param("auto.create.topics.enable", "false", id="a misspelled name creates no topic"),
        pytest.param("log.retention.ms", -1, id="nothing expires"),
        pytest.param("process.roles", "broker,controller", id="one node is broker and controller"),
    ],
)
def test_kafka_has_the_settings_that_one_node_needs(property_: str, wanted: object):
    """Kafka has the settings of a single node; the image turns `KAFKA_A_B` into the property `a.b`."""
    assert KAFKA[f"KAFKA_{property_.replace('.', '_').upper()}"] == wanted


def test_kafka_is_reachable_from_containers_and_from_this_machine():
    """Each listener is bound, advertised under a name that its clients can resolve, and has a protocol."""
    bound, advertised = listeners("KAFKA_LISTENERS"), listeners("KAFKA_ADVERTISED_LISTENERS")
    host = SERVICES["kafka"]["hostname"]
    protocols = {each.split(":")[0] for each in KAFKA["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")}

    assert advertised == {"INSIDE": f"{host}{bound['INSIDE']}", "OUTSIDE": "127.0.0.1:9092"}
    assert bound["OUTSIDE"] == ":9092"
    assert KAFKA["KAFKA_INTER_BROKER_LISTENER_NAME"] == "INSIDE"
    assert set(bound) == protocols == {*advertised, KAFKA["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert KAFKA["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"{KAFKA['KAFKA_NODE_ID']}@{host}{bound['CONTROLLER']}"


def test_the_cluster_id_is_valid():
    """The cluster id is 16 bytes in URL-safe base64; a leading dash would be an option on Kafka's command line."""
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", KAFKA["CLUSTER_ID"])


# --- MongoDB


def test_mongodb_is_a_replica_set_that_its_health_check_initiates():
    """The health check initiates the replica set of the consumer's URI, with a member that containers resolve."""
    mongo = SERVICES["mongo"]
    check = " ".join(mongo["healthcheck"]["test"])

    assert mongo["command"][mongo["command"].index("--replSet") + 1] == "trialstream"
    assert "--bind_ip_all" in mongo["command"]
    assert '_id: "trialstream"' in check
    assert f'host: "{mongo["hostname"]}:27017"' in check
    assert "isWritablePrimary" in check


# --- The Dockerfile


def test_the_image_installs_the_project():
    """The image installs pinned packages by hash, then the project alone, and copies all its files."""
    instructions = dockerfile()
    [install] = [arguments for name, arguments in instructions if name == "RUN" and "pip install" in arguments]
    copied = {source for name, arguments in instructions if name == "COPY" for source in arguments.split()[:-1]}
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    packages, project, check = (shlex.split(each) for each in install.split("&&"))
    assert {"--no-deps", "--require-hashes", "-r", "constraints-image.txt"} < set(packages)
    assert {"--no-deps", "--no-build-isolation"} < set(project)
    assert (project[-1], check) == (".", ["pip", "check"])
    assert copied == admitted
    assert all((ROOT / each).exists() for each in copied)
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {Path(each).parts[0] for each in packages} < copied
    assert {PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"]} < copied


def test_the_image_runs_the_consumer_as_a_user_without_rights():
    """The image runs an existing command without root, in the exec form, which passes signals on to the command."""
    instructions = dict(dockerfile())

    script, *arguments = json.loads(instructions["CMD"])
    assert script in PYPROJECT["project"]["scripts"]
    assert arguments == ["consume"]
    assert instructions["USER"] not in {"root", "0"}


def test_the_image_has_a_python_that_the_project_supports():
    """The image's version of Python is among the classifiers of the project."""
    [version] = re.findall(r"^python:(\d+\.\d+)-slim$", dict(dockerfile())["FROM"])

    assert f"Programming Language :: Python :: {version}" in PYPROJECT["project"]["classifiers"]
