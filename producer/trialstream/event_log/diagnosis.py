"""Finds out why Kafka cannot be used, for the messages of errors."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, TypeAlias

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from trialstream.config import Config
from trialstream.diagnosis import RIGHTS, STEP_SECONDS, Fault, address, connection_fault, describe, tls_fault
from trialstream.kafka_security import TokenError

__all__ = ["Operation", "kafka_trouble", "missing_right"]

Operation: TypeAlias = Literal["Create", "Describe", "DescribeConfigs", "Read", "Write"]

_REMEDY = "start one with `trialstream up`, or set TRIALSTREAM_KAFKA"
# Errors after which servers are tried again, step by step; other errors are answers of a broker.
_UNREACHABLE = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError, TimeoutError)
_CREDENTIALS = "kafka_sasl_username, kafka_sasl_password and kafka_sasl_mechanism"
_TLS_SETTINGS = ("kafka_security_protocol", "kafka_ssl_cafile", "kafka_ssl_certfile")


def missing_right(error: BaseException, operation: Operation) -> str:
    """Name the right whose lack an error reports; empty for other errors.

    Args:
        error: An error of aiokafka.
        operation: The operation that was refused: the error names the resource only.
    """
    name = error.args[0] if error.args else "?"
    if isinstance(error, TopicAuthorizationFailedError):
        names = name if isinstance(name, (set, frozenset, list, tuple)) else [name]
        return f"this user lacks the right {operation} on topic {', '.join(sorted(map(str, names)))}: {RIGHTS}"
    if isinstance(error, GroupAuthorizationFailedError):
        return f"this user lacks the right {operation} on group {name}: {RIGHTS}"
    if isinstance(error, ClusterAuthorizationFailedError):
        return f"this user lacks the right {operation} on the cluster: {RIGHTS}"
    return ""


async def kafka_trouble(config: Config, error: Exception, operation: Operation = "Read") -> str:
    """Describe why Kafka cannot be used: for each server that fails, the step at which it does, and the reason.

    The brokers that Kafka advertises are tried too, since clients connect to these.

    Args:
        config: Where Kafka is.
        error: The error of the client.
        operation: What the client did, if a right was missing.
    """
    faults: dict[str, Fault | None] = {}
    if right := missing_right(error, operation):
        faults[config.kafka] = Fault("authorization", right)
    if isinstance(error, _UNREACHABLE) or type(error) is KafkaError:
        hosts = sorted((host, port) for host, port, _ in collect_hosts(config.kafka))
        found = await asyncio.gather(*(_server_fault(config, host, port) for host, port in hosts))
        faults = {address(*each): fault for each, (fault, _) in zip(hosts, found, strict=True)}
        advertised = {each for _, brokers in found for each in brokers} - set(hosts)
        brokers = sorted(advertised)
        found = await asyncio.gather(*(_server_fault(config, host, port) for host, port in brokers))
        for (host, port), (fault, _) in zip(brokers, found, strict=True):
            faults[f"{address(host, port)} (as Kafka advertises a broker)"] = fault
    otherwise = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return describe(f"Kafka at {config.kafka}", faults, otherwise, _REMEDY)


async def _server_fault(config: Config, host: str, port: int) -> tuple[Fault | None, set[tuple[str, int]]]:
    """Return the fault of a server, and the brokers that it advertises."""
    settings = config.kafka_client()
    if fault := await connection_fault(host, port):
        return fault, set()
    if fault := await tls_fault(host, port, settings.get("ssl_context"), _TLS_SETTINGS):
        return fault, set()
    del settings["bootstrap_servers"]
    settings["request_timeout_ms"] = int(1000 * STEP_SECONDS)
    try:
        connection = await create_conn(host, port, **settings)
    except (IllegalSaslStateError, UnsupportedSaslMechanismError) as error:
        return Fault("authentication", f"{error}: check kafka_security_protocol, kafka_sasl_mechanism"), set()
    except TokenError as error:
        return Fault("authentication", error.args[0]), set()
    except SaslAuthenticationFailed as error:
        return Fault("authentication", f"{error}: check {_CREDENTIALS}"), set()
    except (TimeoutError, KafkaTimeoutError, RequestTimedOutError):
        return Fault("connection", "accepted, but there is no answer of a Kafka broker"), set()
    except (KafkaError, OSError, ValueError, AssertionError) as error:
        what = f"closed by the server ({error})"
        return Fault("authentication" if "sasl_mechanism" in settings else "connection", what), set()
    return await _metadata_fault(connection, settings)


async def _metadata_fault(
    connection: AIOKafkaConnection, settings: dict[str, Any]
) -> tuple[Fault | None, set[tuple[str, int]]]:
    try:
        metadata = await connection.send(MetadataRequest([]))
    except (TimeoutError, KafkaTimeoutError, RequestTimedOutError):
        return Fault("connection", "accepted, but there is no answer to a request for metadata"), set()
    except KafkaError:
        # A listener with SASL answers the request for versions, and closes the connection at the next request.
        if "sasl_mechanism" in settings:
            return Fault("connection", "closed by the server"), set()
        return Fault("authentication", "the server expects SASL: set kafka_security_protocol and the user"), set()
    finally:
        connection.close()
    return None, {(host, port) for _, host, port, *_ in metadata.brokers}
