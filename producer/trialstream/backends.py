"""Backends of `connect`: places other than Kafka and MongoDB where a protocol logs and reads, found by their scheme.

An installed package offers a backend by an entry point in the group `trialstream.backends`, whose name is the scheme:

    [project.entry-points."trialstream.backends"]
    memory = "trialstream_consumer.memory.backends:memory"

The entry point is a function that makes a protocol: see `Backend`.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from trialstream_schemas.errors import ConfigError

if TYPE_CHECKING:
    from trialstream.kafka.protocol import LoggingProtocol
    from trialstream.reading.read_only import ReadOnlyProtocol

__all__ = ["Backend", "open_url"]

_GROUP = "trialstream.backends"


class Backend(typing.Protocol):
    """Makes the protocols of one scheme."""

    def __call__(self, place: str, settings: Mapping[str, Any], timeout: float) -> LoggingProtocol | ReadOnlyProtocol:
        """Make a protocol.

        Args:
            place: The URL after the scheme and the colon.
            settings: Settings of the call to `connect` that are not None, by name.
            timeout: Maximum duration of any wait, seconds.

        Returns:
            The protocol, not entered yet.

        Raises:
            ConfigError: The place or a setting is invalid.
        """


def open_url(url: str, settings: Mapping[str, Any], timeout: float) -> LoggingProtocol | ReadOnlyProtocol:
    """Make the protocol of a URL.

    Args:
        url: `scheme:place`.
        settings: As for `Backend`; settings that are None are left out.
        timeout: Maximum duration of any wait, seconds.

    Returns:
        The protocol.

    Raises:
        ConfigError: There is no such backend, or the place or a setting is invalid.
    """
    if not isinstance(url, str):
        raise ConfigError(f"url: expected a text such as 'memory:', got {type(url).__name__}")
    scheme, colon, place = url.partition(":")
    known = {each.name: each for each in entry_points(group=_GROUP)}
    if not colon or scheme not in known:
        schemes = ", ".join(f"{name}:" for name in sorted(known)) or "none, since no package offers one"
        raise ConfigError(
            f"url: expected one of {schemes} and a place, got {url!r}; give the addresses of servers as kafka and mongo"
        )
    backend: Backend = known[scheme].load()
    return backend(place, {name: x for name, x in settings.items() if x is not None}, timeout)
