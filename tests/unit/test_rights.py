"""The rights of the roles: what is printed for a prefix, and what errors say of a missing right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from pymongo.errors import OperationFailure
from trialstream.config import Config
from trialstream.event_log.diagnosis import missing_right
from trialstream.reading.diagnosis import _refusal
from trialstream_console.rights import ROLES, grants, mongo_role

DOCS = Path(__file__).parents[2] / "docs" / "rights.md"
CONFIG = Config(prefix="p")


@pytest.mark.parametrize("name", list(ROLES))
def test_printed_commands(name):
    """Each right is a command, for the topics, the group and the database of the prefix alone."""
    lines = [line for line in grants(CONFIG, [name]) if not line.startswith("#")]
    acls = [line for line in lines if line.startswith("kafka-acls.sh")]
    assert len(acls) == len(ROLES[name].kafka)
    assert all(
        re.search(rf"User:{name} --operation \w+ --(topic p\.\w+|group p\.fold|cluster)$", line) for line in acls
    )
    roles = [json.loads(line[len("db.runCommand(") : -1]) for line in lines if line not in acls]
    assert len(roles) == bool(ROLES[name].mongo)
    assert {each["resource"]["db"] for role in roles for each in role["privileges"]} <= {"p"}


def test_a_role_without_mongodb():
    """Roles that need no MongoDB get no role there."""
    assert {name for name in ROLES if mongo_role(CONFIG, name) is None} == {
        "log",
        "log-groups",
        "push",
        "export",
        "import",
    }


def test_the_documented_roles():
    """The table of the documentation has each role, with its actions of MongoDB."""
    rows = {
        row[1].strip("` "): row for row in (line.split("|") for line in DOCS.read_text().splitlines()) if len(row) == 6
    }
    for name, role in ROLES.items():
        assert name in rows, name
        for each in role.kafka:
            assert each.operation in rows[name][3]
        for action in role.mongo:
            assert action in rows[name][4] or (name == "rebuild" and action in rows["consume"][4])


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (TopicAuthorizationFailedError("p.trials"), "lacks the right Write on topic p.trials: "),
        (TopicAuthorizationFailedError({"p.b", "p.a"}), "lacks the right Write on topic p.a, p.b: "),
        (GroupAuthorizationFailedError("p.fold"), "lacks the right Write on group p.fold: "),
        (ClusterAuthorizationFailedError(), "lacks the right Write on the cluster: "),
    ],
    ids=["a topic", "topics", "a group", "the cluster"],
)
def test_missing_right_in_kafka(error, wanted):
    """An error of a missing right names the operation and the resource."""
    assert wanted in missing_right(error, "Write")


def test_other_errors_of_kafka():
    """Other errors are about no right."""
    assert missing_right(KafkaError("x"), "Write") == missing_right(TimeoutError(), "Read") == ""


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (
            'not authorized on p to execute command { find: "trials", filter: { secret: 1 }, $db: "p" }',
            "lacks the right find on p.trials (for find): ",
        ),
        (
            'not authorized on p to execute command { drop: "trials~1", $db: "p" }',
            "lacks the right dropCollection on p.trials~1 ",
        ),
        (
            'not authorized on p to execute command { findAndModify: "c" }',
            "lacks the right find, insert and update on p.c ",
        ),
    ],
    ids=["a read", "a drop", "an upsert"],
)
def test_missing_right_in_mongodb(message, wanted):
    """An error of a missing right names the action and the place, without the values of the command."""
    fault = _refusal(OperationFailure(message, 13, {"errmsg": message, "code": 13}))
    assert fault is not None
    assert fault.step == "authorization"
    assert wanted in fault.reason
    assert "secret" not in fault.reason
