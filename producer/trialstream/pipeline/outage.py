"""Warnings of outages: Kafka acknowledges nothing while events wait."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
from trialstream_schemas.messages import counted

from trialstream.config import Config
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.signals import until_tick
from trialstream.statistics import Statistics

__all__ = ["OutageWatch"]

# Time without an acknowledgement after which the user is warned, seconds. Normally an acknowledgement takes
# milliseconds; a broker that restarts is back within a few seconds.
_WARN_SECONDS = 10.0
_CHECK_SECONDS = 0.5


class OutageWatch:
    """Warns once in each outage. Lives in one event loop.

    An outage begins when a partition with events has waited 10 s for an acknowledgement, or when this user turns out to
    lack the right to send them. It ends when all events that waited at its warning are acknowledged or dropped.

    Args:
        config: Where Kafka is.
        backlog: The events.
        folder: Folder of the spool; None without one.
        reason: Returns why the last attempt to send failed; empty if it did not fail.
        warn: Warns the user, from this event loop.
        missing_right: Returns the right that this user lacks; empty if it lacks none, as far as is known.
    """

    def __init__(
        self,
        config: Config,
        backlog: Backlog,
        folder: Path | None,
        reason: Callable[[], str],
        warn: Callable[[str], object],
        missing_right: Callable[[], str] = str,
    ) -> None:
        self._config = config
        self._backlog = backlog
        self._folder = folder
        self._reason = reason
        self._warn = warn
        self._missing_right = missing_right
        # During an outage: the number in the backlog of the first event after its warning.
        self._outage: int | None = None
        self._stopped = False

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await anyio.sleep(until_tick(_CHECK_SECONDS))
            self._check()

    def stop(self) -> None:
        """Warn no more: the protocol is being closed, and the closing reports the events that are not sent."""
        self._stopped = True

    def _check(self) -> None:
        if self._outage is not None:
            if self._backlog.is_acked(self._outage):
                self._outage = None
        elif not self._stopped and (self._missing_right() or self._backlog.stalled_seconds() >= _WARN_SECONDS):
            self._outage = self._backlog.next_number
            self._warn(self._message())

    def _message(self) -> str:
        found = self._backlog.statistics()
        if right := self._missing_right():
            refusal = f"Kafka at {self._config.kafka} refuses events: {right}"
            return f"trialstream: {refusal}; {self._fate(found, 'the right is granted')}"
        since = datetime.now(UTC) - timedelta(seconds=self._backlog.stalled_seconds())
        return (
            f"trialstream: Kafka at {self._config.kafka} has not acknowledged events for {_WARN_SECONDS:g} s, since "
            f"{since:%H:%M:%S} UTC ({self._reason() or 'no answer'}): {self._fate(found, 'it answers')}"
        )

    def _fate(self, found: Statistics, end: str) -> str:
        waiting = counted(found.queued, "event waits", "events wait")
        they, are = ("it", "is") if found.queued == 1 else ("they", "are")
        if self._folder is None:
            lost = f"without a spool {they} {are} lost if the process ends before"
            return f"{waiting} in memory and {are} sent when {end}; {lost}"
        return f"{waiting} ({found.spooled} in the spool {self._folder}) and {are} sent when {end}"
