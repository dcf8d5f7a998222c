"""Finds the step at which a connection to a server fails: DNS, connection, TLS, authentication or authorization.

The clients of Kafka and MongoDB report one error for most of these steps. So after such an error each server is tried
once more, step by step. Names, ports and reasons of the system are reported, never credentials.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

import anyio

__all__ = ["RIGHTS", "STEP_SECONDS", "Fault", "address", "connection_fault", "describe", "tls_fault"]

# Time limit of each step. An error is delayed by the steps until the one that fails.
STEP_SECONDS = 1.0
RIGHTS = "`trialstream rights` lists what each role needs"
"""Remedy of a missing right."""
# Time in which a server rejects a missing client certificate after the handshake (TLS 1.3).
_REJECTION_SECONDS = 0.3

Step = Literal["DNS", "connection", "TLS", "authentication", "authorization"]


class Fault(NamedTuple):
    """The step at which a connection fails, and why."""

    step: Step
    reason: str


def address(host: str, port: int) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe(server: str, faults: Mapping[str, Fault | None], otherwise: str, remedy: str) -> str:
    """Describe why a server cannot be used.

    Args:
        server: `Kafka at host:port` or `MongoDB at host:port`.
        faults: Address → its fault; None if none was found.
        otherwise: Description of the client's error, if no address has a fault.
        remedy: What to do if no server answers; faults of TLS and authentication name the settings themselves.

    Returns:
        One sentence.
    """
    found = {each: fault for each, fault in faults.items() if fault is not None}
    if not found:
        return f"a request to {server} failed: {otherwise}; {remedy}"
    refused = any(fault.step in ("TLS", "authentication", "authorization") for fault in found.values())
    what = "refuses this client" if refused else "does not answer"
    reasons = ", ".join(f"{each}: {fault.step}: {fault.reason}" for each, fault in found.items())
    return f"{server} {what}: {reasons}" + ("" if refused else f"; {remedy}")


async def connection_fault(host: str, port: int) -> Fault | None:
    """Try to resolve a name, and to connect to its port.

    Args:
        host: Name or IP address.
        port: TCP port.

    Returns:
        The fault; None if the server accepts connections.
    """
    try:
        with anyio.fail_after(STEP_SECONDS):
            await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return Fault("DNS", f"no answer for the name {host} within {STEP_SECONDS:g} s")
    except (OSError, UnicodeError) as error:
        return Fault("DNS", f"the name {host} has no address ({_reason(error)})")
    try:
        async with _connected(host, port):
            return None
    except TimeoutError:
        return Fault("connection", f"no answer within {STEP_SECONDS:g} s; check the port, and firewalls in between")
    except ConnectionRefusedError:
        return Fault("connection", "refused, nothing listens on this port")
    except OSError as error:
        return Fault("connection", _reason(error))


async def tls_fault(host: str, port: int, context: ssl.SSLContext | None, settings: Iterable[str]) -> Fault | None:
    """Try a TLS handshake with a server that accepts connections.

    Args:
        host: Name or IP address.
        port: TCP port.
        context: The client's TLS settings; None if the client does not use TLS.
        settings: What configures TLS, for the message.

    Returns:
        The fault: the handshake failed, or it succeeded though the client does not use TLS; otherwise None.
    """
    names = ", ".join(settings)
    if context is None:
        trial = ssl.create_default_context()
        trial.check_hostname, trial.verify_mode = False, ssl.CERT_NONE
        try:
            async with _connected(host, port, trial):
                return Fault("TLS", f"the server expects TLS, and this client does not use it: set {names}")
        except TimeoutError:  # brokers and mongod without TLS close the connection at once
            return Fault("connection", f"accepted, but the server sent nothing within {STEP_SECONDS:g} s")
        except (OSError, EOFError):
            return None
    try:
        async with _connected(host, port, context) as reader:
            with anyio.move_on_after(_REJECTION_SECONDS):
                await reader.read(1)
    except ssl.SSLCertVerificationError as error:
        return Fault("TLS", f"the server's certificate is refused ({error.verify_message}): check {names}")
    except TimeoutError:
        return Fault("TLS", f"the server did not answer the handshake within {STEP_SECONDS:g} s: is it one with TLS?")
    except (OSError, EOFError) as error:
        return Fault("TLS", f"the handshake failed ({_reason(error)}): does the server use TLS? Check {names}")
    return None


@asynccontextmanager
async def _connected(
    host: str, port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[asyncio.StreamReader]:
    with anyio.fail_after(STEP_SECONDS):
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        yield reader
    finally:
        writer.transport.abort()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ")
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
