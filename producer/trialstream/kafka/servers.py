"""Servers of a session: a log that it sends to, and a projection of it that it reads."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from trialstream.config import Config
from trialstream.pipeline.carrier import Carrier
from trialstream.pipeline.pipeline import Pipeline
from trialstream.reading.offline import OfflineReader
from trialstream.reading.reader import Reader
from trialstream.runtime.lifecycle import Lifecycle
from trialstream.spool.folder import Spool

__all__ = ["KafkaAndMongo", "Servers"]


class Servers(typing.Protocol):
    """Makes the parts of a session that need servers. Its calls come from the I/O thread."""

    def reader(self) -> Reader:
        """Make the reader of the projection."""

    def carrier(
        self,
        lifecycle: Lifecycle,
        spool: Spool | None,
        check_log: Callable[[Awaitable[str]], Coroutine[Any, Any, None]],
    ) -> Carrier:
        """Make what carries events to the log.

        Args:
            lifecycle: Its event loop, and where to warn the user.
            spool: The spool; None without one.
            check_log: Called with the id of the log once that is known: see `Pipeline`.

        Returns:
            The carrier.
        """


class KafkaAndMongo:
    """The servers that the settings name.

    Args:
        config: Where they are; `offline` leaves both out, and an empty `mongo` the second one.
        timeout: Maximum duration of any wait, seconds.
    """

    def __init__(self, config: Config, timeout: float) -> None:
        self._config = config
        self._make_reader: Callable[[], Reader] = OfflineReader
        if config.can_read:
            from trialstream.reading.mongo import MongoReader  # noqa: PLC0415 (heavy)

            self._make_reader = lambda: MongoReader(config, timeout)

    def reader(self) -> Reader:
        """See `Servers.reader`."""
        return self._make_reader()

    def carrier(
        self,
        lifecycle: Lifecycle,
        spool: Spool | None,
        check_log: Callable[[Awaitable[str]], Coroutine[Any, Any, None]],
    ) -> Carrier:
        """See `Servers.carrier`."""
        return Pipeline(self._config, lifecycle.loop, spool, lifecycle.warn_in_background, check_log=check_log)
