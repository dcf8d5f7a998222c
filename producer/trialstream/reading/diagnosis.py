"""Finds out why MongoDB cannot be used, for the messages of errors."""

from __future__ import annotations

import asyncio
import re
import struct
from typing import Any

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError
from pymongo.server_description import ServerDescription
from trialstream_schemas.messages import shortened

from trialstream.diagnosis import RIGHTS, Fault, address, connection_fault, describe, tls_fault

__all__ = ["BSON_ERRORS", "is_refusal", "known_refusal", "mongo_address", "mongo_message", "mongo_trouble"]

BSON_ERRORS = (BSONError, OverflowError, UnicodeError, struct.error, RecursionError)
"""Errors of the driver, besides its own classes, for a document or a query that BSON cannot hold.

It is too large (`DocumentTooLarge`, which is no `PyMongoError`), has a key or value that cannot be encoded or decoded
(`InvalidDocument`, `InvalidBSON`), an integer beyond 64 bits, a lone surrogate, a length beyond 32 bits, or too many
levels.
"""

_REMEDY = "start one with `trialstream up`, or set TRIALSTREAM_MONGO"
# MongoDB's error codes: AuthenticationFailed, UserNotFound, Unauthorized, and that of Atlas.
_UNAUTHORIZED = 13
_REFUSED = (18, 11, _UNAUTHORIZED, 8000)
# The message quotes the whole command, with all its values.
_LACKING = re.compile(r"not authorized on (\S+) to execute command \{ (\w+): (?:\"([^\"]*)\")?")
# By command, the actions that it needs; of other commands, the action has the name of the command.
_ACTIONS = {
    "aggregate": "find",
    "count": "find",
    "create": "createCollection",
    "createIndexes": "createIndex",
    "delete": "remove",
    "drop": "dropCollection",
    "findAndModify": "find, insert and update",
    "update": "insert and update",
}
_TLS_OPTIONS = ("tls=true, tlsCAFile and tlsCertificateKeyFile in TRIALSTREAM_MONGO",)


def mongo_address(client: AsyncIOMotorClient[Any]) -> str:
    """Addresses of the servers of a client, for messages: those of its URI, and others that it has found.

    Args:
        client: The client.
    """
    return ", ".join(sorted(map(_name, _servers(client)))) or "the configured address"


async def mongo_trouble(client: AsyncIOMotorClient[Any], error: PyMongoError) -> str:
    """Describe why MongoDB cannot be used: for each server that fails, the step at which it does, and the reason.

    Args:
        client: The client of the failed request.
        error: The driver's error.
    """
    servers = _servers(client)
    all_names = mongo_address(client)
    faults: dict[str, Fault | None] = {}
    if refusal := _refusal(error):
        faults[all_names] = refusal
    elif isinstance(error, ConfigurationError):  # of a mongodb+srv URI: others were checked before
        faults[all_names] = Fault("DNS", str(error))
    elif isinstance(error, ConnectionFailure):
        unknown = [each for each in servers if not each.is_server_type_known]
        found = await asyncio.gather(*(_server_fault(client, each) for each in unknown))
        faults = dict(zip(map(_name, unknown), found, strict=True))
    return describe(f"MongoDB at {all_names}", faults, f"{type(error).__name__}: {mongo_message(error)}", _REMEDY)


def is_refusal(error: Exception | None) -> bool:
    """Whether MongoDB refuses the user, or lacks a right that the request needs: a retry would fail too.

    Args:
        error: The driver's error.
    """
    return isinstance(error, OperationFailure) and error.code in _REFUSED


def known_refusal(client: AsyncIOMotorClient[Any]) -> Exception | None:
    """Return the error by which all servers have refused the user of a client; None if one has not.

    After it, the driver waits for the next heartbeat of a server, up to ten seconds, before it tries again.

    Args:
        client: The client.
    """
    errors = [each.error for each in _servers(client)]
    return errors[0] if errors and all(map(is_refusal, errors)) else None


def _refusal(error: Exception | None) -> Fault | None:
    """Return the fault of an error by which MongoDB refuses a user; None for other errors."""
    if isinstance(error, OperationFailure) and error.code in _REFUSED:
        message = mongo_message(error)
        if found := _LACKING.match(message):
            database, command, collection = found.groups()
            place = f"{database}.{collection}" if collection else database
            right = "changeStream and find" if "$changeStream" in message else _ACTIONS.get(command, command)
            return Fault("authorization", f"this user lacks the right {right} on {place} (for {command}): {RIGHTS}")
        return Fault("authentication", f"{message}: check user, password and authSource in TRIALSTREAM_MONGO")
    return None


def _servers(client: AsyncIOMotorClient[Any]) -> list[ServerDescription]:
    try:
        description: Any = client.topology_description  # the driver's stubs declare a method
        return list(description.server_descriptions().values())
    except PyMongoError:  # the client was closed
        return []


def _name(server: ServerDescription) -> str:
    host, port = server.address
    return host if port is None else address(host, port)


def mongo_message(error: PyMongoError) -> str:
    """The message of an error, at a bounded length, without the state of the driver and the documents that some append.

    Args:
        error: The driver's error.
    """
    if isinstance(error, OperationFailure):
        details = error.details or {}
        failed = [details, *(details.get("writeErrors") or [])]  # the latter of a bulk
        return shortened(next((str(each["errmsg"]) for each in failed if each.get("errmsg")), str(error)).rstrip("."))
    return shortened(str(error).partition(", Timeout: ")[0])


async def _server_fault(client: AsyncIOMotorClient[Any], server: ServerDescription) -> Fault | None:
    host, port = server.address
    reported = str(server.error or "").partition(" (configured timeouts")[0]
    if port is None:  # a Unix socket
        return Fault("connection", reported or "the socket does not answer")
    if fault := _refusal(server.error) or await connection_fault(host, port):
        return fault
    if client.delegate.options.pool_options._ssl_context is not None:  # noqa: SLF001
        if "SSL" in reported or "certificate" in reported:
            return Fault("TLS", f"{reported}: does the server use TLS? Check {_TLS_OPTIONS[0]}")
    elif fault := await tls_fault(host, port, None, _TLS_OPTIONS):
        return fault
    return Fault(
        "connection", f"accepted, but there is no answer of a MongoDB server{f' ({reported})' * bool(reported)}"
    )
