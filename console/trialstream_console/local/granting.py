"""Grants of a secured stack: what each role may do in Kafka and in MongoDB."""

from __future__ import annotations

from typing import Any

from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest
from anyio.to_thread import run_sync
from pymongo import MongoClient
from trialstream.config import Config
from trialstream.event_log.clients import open_admin

from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.security import Security
from trialstream_console.rights import ROLES, KafkaRight, mongo_role

__all__ = ["ACL_OPERATIONS", "ACL_RESOURCES", "grant", "grant_all"]

# Kafka's numbers: https://kafka.apache.org/protocol.html#The_Messages_CreateAcls
ACL_RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
ACL_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
_LITERAL, _ALLOW = 3, 3


async def grant_all(security: Security, config: Config) -> None:
    """Grant to the user of each role what the table of rights says; what was granted before stays.

    Args:
        security: Names the users, and has their passwords.
        config: Settings of the launcher.

    Raises:
        KafkaUnavailable: Kafka did not answer.
        LocalStackError: Kafka has refused a grant.
    """
    for name, role in ROLES.items():
        await grant(config, name, role.kafka)
    await run_sync(_grant_in_mongo, security, config)


async def grant(config: Config, user: str, rights: tuple[KafkaRight, ...]) -> None:
    """Grant rights in Kafka.

    Args:
        config: Settings of the launcher.
        user: Name of the user.
        rights: The rights.

    Raises:
        KafkaUnavailable: Kafka did not answer.
        LocalStackError: Kafka has refused a grant.
    """
    async with open_admin(config) as admin:
        for each in rights:
            resource = ACL_RESOURCES[each.kind], each.name(config), _LITERAL
            request = CreateAclsRequest(*resource, f"User:{user}", "*", ACL_OPERATIONS[each.operation], _ALLOW)
            response: Any = await admin._send_to_controller(request)  # noqa: SLF001 (aiokafka has no call for it)
            for code, message in response.creation_responses:
                if code:
                    raise LocalStackError(
                        f"{each.operation} could not be granted: {for_code(code).__name__}: {message}"
                    )


def _grant_in_mongo(security: Security, config: Config) -> None:
    with MongoClient[dict[str, Any]](config.mongo) as client:
        admin = client.admin
        for name in ROLES:
            made = mongo_role(config, name)
            if made is None:
                continue
            known = admin.command("rolesInfo", made["createRole"])["roles"]
            admin.command({"updateRole" if known else "createRole": made.pop("createRole"), **made})
            has_user = admin.command("usersInfo", name)["users"]
            admin.command(
                "updateUser" if has_user else "createUser",
                name,
                pwd=security.passwords[name],
                roles=[f"{config.prefix}-{name}"],
            )
