"""Events that Kafka refuses because they are too large for their topic: they do not hold up their partition.

The limit of a topic (`max.message.bytes`, `segment.bytes`) may be lowered while a process runs. An event above the
limit leaves the queue and counts as dropped:

- if a caller waits for the outcome of the event, the call raises an error;
- otherwise the event is written to a file beside the segments of the spool, from where `trialstream push --refused`
  sends it after the limit was raised. Without a spool it is lost.

Two kinds of events are never written. A claim must not win days later, when its caller has gone. An event of which an
earlier attempt had no answer may be in the log already, and would count twice. For the same reason a push, whose
segments may hold acknowledged events, halts at a refused event.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import anyio
from trialstream_schemas.errors import InvalidValue, SchemaError, SpoolError, TrialStreamError
from trialstream_schemas.messages import counted
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import MetricsLogged, SubjectEvent

from trialstream.event_log.topics import Route
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.signals import ProgressSignal
from trialstream.runtime.loop import run_sync
from trialstream.spool.folder import Spool
from trialstream.spool.refused import RefusedEvents

__all__ = ["Refusals", "push_refused"]

# Least time between two warnings, seconds: a lowered limit may concern each event of a training run.
_WARN_SECONDS = 60.0


class Refusals:
    """Takes refused events out of the queues. Lives in one event loop.

    Args:
        backlog: The events.
        spool: The spool whose folder takes the refused events; None without one.
        progress: Notified when an event was refused.
        warn: Warns the user, from this event loop.
        halts: Whether a refused event stays in its queue, and halts its partition.

    Attributes:
        halted: Description of a refused event that halts its partition; empty if there is none.
    """

    def __init__(
        self,
        backlog: Backlog,
        spool: Spool | None,
        progress: ProgressSignal,
        warn: Callable[[str], object],
        *,
        halts: bool = False,
    ) -> None:
        self.halted = ""
        self._halts = halts
        self._backlog = backlog
        self._spool = spool
        self._file = None if spool is None else RefusedEvents(spool)
        self._progress = progress
        self._warn = warn
        # Partitions are sent at the same time, and a file takes one event at a time.
        self._writing = anyio.Lock()
        # By request: called with the error if an event of the request is refused. Tasks may share a request.
        self._callers: dict[str, list[Callable[[TrialStreamError], None]]] = {}
        # Numbers of events that were written to a file, that are lost, and that no warning has counted.
        self._kept = self._lost = self._unreported = 0
        # Time of the next warning at the earliest (monotonic clock).
        self._next_warning = 0.0

    async def refuse(self, route: Route, entry: Entry, reason: str) -> None:
        """Drop the first entry of a partition, which Kafka has refused.

        Args:
            route: The partition.
            entry: The entry.
            reason: The error of Kafka.
        """
        event = self._decode(entry)
        what = f"{_description(entry, event)} is larger than topic {route.topic} takes ({reason})"
        if self._halts:
            self.halted = what
            await anyio.sleep_forever()
        callers = list(self._callers.get((event and event.request) or "", ()))
        if not callers:
            self._report(f"{what}: {await self._keep(entry, event)}")
        self._backlog.discard(route)
        self._progress.notify()
        for fail in callers:
            fail(InvalidValue(f"{what}: nothing was logged; log less, or raise max.message.bytes of the topic"))

    def fail(self, requests: Iterable[str | None], error: TrialStreamError) -> None:
        """Raise an error for the callers of requests, whose events stay queued.

        Args:
            requests: Ids of the requests; None for events that are no requests.
            error: The error.
        """
        for fail in [each for request in requests for each in self._callers.get(request or "", ())]:
            fail(error)

    @contextmanager
    def raised_for(self, request: str) -> Iterator[None]:
        """Cancel the block if the event of a request is refused, or cannot be sent for lack of a right.

        Args:
            request: Id of the request.

        Raises:
            CommitTimeout: This user lacks a right; the event stays queued.
            InvalidValue: The event was refused.
        """
        refused: list[TrialStreamError] = []
        with anyio.CancelScope() as scope:

            def fail(error: TrialStreamError) -> None:
                refused.append(error)
                scope.cancel()

            callers = self._callers.setdefault(request, [])
            callers.append(fail)
            try:
                yield
            finally:
                callers.remove(fail)
                if not callers:
                    del self._callers[request]
        if scope.cancelled_caught:
            raise refused[0]

    def summary(self) -> list[str]:
        """The messages about all refused events, for the warning of the closing; empty if there are none."""
        said = []
        if self._kept:
            assert self._spool is not None
            said.append(
                f"{_too_large(self._kept)} in {self._spool.folder}: raise the topic's max.message.bytes, then send "
                f"{'it' if self._kept == 1 else 'them'} with {push_refused(self._spool)}"
            )
        if self._lost:
            said.append(f"{_too_large(self._lost)} lost")
        return said

    # --- Private

    def _decode(self, entry: Entry) -> SubjectEvent | None:
        """Decode an entry; None if another version wrote it."""
        try:
            event = SchemaStore().decode(entry.encode())
        except SchemaError:
            return None
        return event if isinstance(event, SubjectEvent) else None

    async def _keep(self, entry: Entry, event: SubjectEvent | None) -> str:
        """Write an event to a file, and return what has become of it."""
        trouble = ""
        if self._spool is None or self._file is None:
            trouble = "there is no spool: TRIALSTREAM_SPOOL is off"
        elif event is not None and event.if_version is not None:
            trouble = "a claim is not sent later"
        elif entry.unsure:
            trouble = "unless Kafka took it at an earlier attempt, which had no answer"
        else:
            try:
                async with self._writing:
                    await run_sync(self._file.append, entry.to_spool())
            except SpoolError as error:
                trouble = str(error)
        if trouble:
            self._lost += 1
            return f"the event is lost ({trouble}) and counts as dropped; raise max.message.bytes of the topic"
        self._kept += 1
        assert self._spool is not None
        return (
            "the event counts as dropped and is kept; raise max.message.bytes of the topic, and after the end of this "
            f"process send the event with {push_refused(self._spool)}"
        )

    def _report(self, message: str) -> None:
        """Warn the user, but not too often; the warning counts the events since the last one."""
        now = time.monotonic()
        if now < self._next_warning:
            self._unreported += 1
            return
        more = counted(self._unreported, "more event was", "more events were")
        more = f" ({more} refused since the last warning)" if self._unreported else ""
        self._next_warning, self._unreported = now + _WARN_SECONDS, 0
        self._warn(f"trialstream: {message}{more}")


def push_refused(spool: Spool) -> str:
    """The command that sends the refused events of a spool."""
    return f"trialstream push --refused {shlex.quote(str(spool.folder))}"


def _too_large(number: int) -> str:
    what = "that Kafka refused as too large"
    return counted(number, f"event {what} is", f"events {what} are")


def _description(entry: Entry, event: SubjectEvent | None) -> str:
    """Describe an event: its kind, its subject and its size."""
    size = len(entry.encode())
    if event is None:
        return f"an event of {entry.key.decode(errors='replace')} with {counted(size, 'byte')}"
    rows = f"{counted(len(event.times), 'row')} and " if isinstance(event, MetricsLogged) else ""
    return f"{type(event).__name__} of {event.SUBJECT} {event.subject} with {rows}{counted(size, 'byte')}"
