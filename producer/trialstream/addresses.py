"""The form of the addresses of Kafka's servers."""

from __future__ import annotations

import ipaddress
import re

from trialstream_schemas.errors import ConfigError

__all__ = ["check_servers"]

# A host with an optional port; an IPv6 address may stand in brackets.
_SERVER = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<host>[^\[\]:/@\s]+))(?::(?P<port>[0-9]{1,5}))?")


def check_servers(servers: str) -> None:
    """Check the bootstrap servers.

    Args:
        servers: The setting `kafka`.

    Raises:
        ConfigError: There are none, or one is not `host` or `host:port`.
    """
    for server in servers.split(","):
        if not _is_server(server.strip()):
            # A URI with credentials may have been given by mistake.
            given = "a text with '@'" if "@" in servers else repr(server)
            raise ConfigError(f"kafka: expected bootstrap servers, host:port[,host:port...], got {given}")


def _is_server(text: str) -> bool:
    found = _SERVER.fullmatch(text)
    if found is None or found["address"]:
        return _is_ipv6(text if found is None else found["address"]) and _is_port(found)
    try:
        found["host"].encode("idna")  # as when it is looked up: no empty and no overlong label
    except UnicodeError:
        return False
    return _is_port(found)


def _is_port(found: re.Match[str] | None) -> bool:
    """Whether the port of a match of `_SERVER` is valid; it may be missing."""
    return found is None or found["port"] is None or 1 <= int(found["port"]) <= 65535


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
