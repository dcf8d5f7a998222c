"""Rights: what each role needs in Kafka and in MongoDB, and the commands that grant it.

A role is a kind of program or command, which gets a user of its own. The table `ROLES` is what `trialstream rights`
prints, what the secured local stack grants, and what the tests take away right by right (docs/rights.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from trialstream.config import Config

__all__ = ["ROLES", "KafkaRight", "Operation", "Role", "grants", "mongo_role"]

Operation: TypeAlias = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]
Resource: TypeAlias = Literal["trials", "registry", "schemas", "group", "cluster"]

# The name that Kafka gives to the one resource of its kind.
_CLUSTER = "kafka-cluster"


class KafkaRight(NamedTuple):
    """An operation on a topic, on the consumer group or on the cluster. `Read` and `Write` include `Describe`.

    Attributes:
        operation: The operation.
        resource: The topic of that name (`<prefix>.trials` for `trials`), the consumer group, or the cluster.
    """

    operation: Operation
    resource: Resource

    @property
    def kind(self) -> Literal["topic", "group", "cluster"]:
        """Kind of the resource."""
        return self.resource if self.resource in ("group", "cluster") else "topic"

    def name(self, config: Config) -> str:
        """Return the name of the resource in Kafka."""
        names = {"group": config.consumer_group, "cluster": _CLUSTER}
        return names.get(self.resource, f"{config.prefix}.{self.resource}")


@dataclass(frozen=True)
class Role:
    """The least rights of a kind of program.

    Attributes:
        purpose: What a user with this role can do.
        kafka: Rights in Kafka.
        mongo: MongoDB's actions on the database `<prefix>`. Empty: the role needs no MongoDB.
    """

    purpose: str
    kafka: tuple[KafkaRight, ...]
    mongo: tuple[str, ...]


def _topics(operation: Operation, *names: Resource) -> tuple[KafkaRight, ...]:
    return tuple(KafkaRight(operation, each) for each in names)


_READ_ALL = _topics("Read", "trials", "registry", "schemas")
_WRITE_ALL = _topics("Write", "trials", "registry", "schemas")
_READ = ("find", "changeStream")
_PREPARE = ("listCollections", "createIndex")
_FOLD = ("find", "insert", "update", *_PREPARE)
_DROP = ("remove", "dropCollection", "collStats")
_DASHBOARD = (
    *_READ_ALL,
    *_topics("DescribeConfigs", "trials", "registry", "schemas"),
    KafkaRight("Describe", "group"),
    KafkaRight("Describe", "cluster"),
)
_SHOW = (*_READ, "listCollections", "collStats")

ROLES = {
    "setup": Role(
        "create the topics, the collections and their indexes (`trialstream setup`)",
        (
            *_topics("Create", "trials", "registry", "schemas"),
            *_topics("Write", "registry", "schemas"),
            *_topics("Describe", "trials"),
            *_topics("Read", "registry"),
        ),
        _PREPARE,
    ),
    "log": Role("log trials", _topics("Write", "trials", "schemas"), ()),
    "log-groups": Role("log trials, projects and groups", _WRITE_ALL, ()),
    "push": Role("send spools (`trialstream push`)", _WRITE_ALL, ()),
    "read": Role(
        "read and watch (`read_only`, `watch`; `trialstream trials`, also with --lost, `dead-letters` and `alerts`)",
        (KafkaRight("Describe", "trials"),),
        _READ,
    ),
    "protocol": Role(
        "log and read through one Protocol, with claims and `latest`",
        _WRITE_ALL,
        _READ,
    ),
    "dashboard": Role("show trials, the log and the service (`trialstream dashboard`)", _DASHBOARD, _SHOW),
    "dashboard-writes": Role(
        "also write tags and notes (`trialstream dashboard --allow-writes`)",
        (*_topics("Write", "trials", "schemas"), *_DASHBOARD),
        _SHOW,
    ),
    "consume": Role("fold (`trialstream consume`)", (*_READ_ALL, KafkaRight("Read", "group")), _FOLD),
    "rebuild": Role(
        "`trialstream rebuild`, `verify` and `projections`",
        _READ_ALL,
        (*_FOLD, *_DROP),
    ),
    "export": Role("`trialstream export`", _READ_ALL, ()),
    "import": Role("`trialstream import`", _WRITE_ALL, ()),
}
"""The roles by name, which is also the name of the user in the examples and in the secured local stack."""


def _acl_lines(config: Config, name: str) -> list[str]:
    """Return the commands that grant a role in Kafka to the user of that name.

    Args:
        config: Names the topics and the group.
        name: Name of the role.
    """
    begin = f"kafka-acls.sh --bootstrap-server {config.kafka} --command-config admin.properties --add"
    return [
        f"{begin} --allow-principal User:{name} --operation {each.operation} --{each.kind}"
        + ("" if each.kind == "cluster" else f" {each.name(config)}")
        for each in ROLES[name].kafka
    ]


def mongo_role(config: Config, name: str) -> dict[str, Any] | None:
    """Return the role of MongoDB, as the command `createRole` takes it; None if the role needs no MongoDB.

    Args:
        config: Names the database.
        name: Name of the role.
    """
    actions = list(ROLES[name].mongo)
    privileges = [{"resource": {"db": config.database, "collection": ""}, "actions": actions}]
    return {"createRole": f"{config.prefix}-{name}", "privileges": privileges, "roles": []} if actions else None


def _role_lines(config: Config, name: str) -> list[str]:
    """Return the lines for mongosh that make a role of MongoDB, to be run in the database `admin`.

    Args:
        config: Names the database.
        name: Name of the role.
    """
    made = mongo_role(config, name)
    return [] if made is None else [f"db.runCommand({json.dumps(made)})"]


def grants(config: Config, names: Sequence[str]) -> list[str]:
    """Return the lines that `trialstream rights` prints for some roles.

    Args:
        config: Names the topics, the group and the database.
        names: Names of the roles.
    """
    lines = []
    for name in names:
        lines.append(f"# {name}: {ROLES[name].purpose}")
        lines += _acl_lines(config, name) or ["# Kafka: nothing"]
        lines += _role_lines(config, name) or ["# MongoDB: nothing"]
    return lines
