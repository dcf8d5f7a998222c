"""The feed of `/live`: one for a process, shared by its clients, over one watch of all trials.

The event loop handles a look at a time, of some hundred trials at most (`trialstream.watch`).

Each change is encoded once for all clients with the same filter. A client has a queue of a bounded size: one that reads
too slowly loses what is in it, and gets a `reset` instead, after which it loads anew. The feed runs while there are
clients, and for a minute after the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import anyio.to_thread
import structlog
import trialstream as ts
from trialstream.config import Config
from trialstream.reading.read_only import ReadOnlyProtocol
from trialstream.sync import SyncProtocol
from trialstream_schemas.errors import TrialStreamError

from trialstream_console.dashboard.increments import rows_events
from trialstream_console.dashboard.live_events import MAX_UIDS, live_event, trials_event
from trialstream_console.dashboard.recent_changes import Changed, Filter, RecentChanges, by_filter
from trialstream_console.dashboard.refusals import Refusal

__all__ = ["Feed", "Subscriber"]

_MAX_QUEUE = 64
# Least time between two looks, seconds. A process sends what it logs five times a second, so the rows of a trial that
# one process logs are seen at once.
_INTERVAL = 0.15
# Clients for each second between two looks, so that those of one server get at most so many messages a second.
_CLIENTS_PER_SECOND = 1000
_IDLE_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_FIELDS = ["project_id", "group_id", "rows"]


class Subscriber:
    """A client of the feed.

    Args:
        project: Uid of the project whose trials the client shows; None for all.
        group: Uid of the group.
        trial: Uid of the trial whose rows the client wants; None for none.
        curves: Names of the metrics; empty for all.
    """

    def __init__(self, project: str | None, group: str | None, trial: str | None, curves: Iterable[str]) -> None:
        self.filter = (project, group)
        self.trial = trial
        self.curves = frozenset(curves)
        self._queue: deque[bytes] = deque()
        self._filled = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Send a message; a client that is too slow gets a reset instead of what waits for it."""
        if len(self._queue) >= _MAX_QUEUE:
            self._queue.clear()
            message = live_event("reset", {}, "")
        self._queue.append(message)
        self._filled.set()

    async def take(self, seconds: float) -> bytes:
        """Return what waits to be sent, or the empty text after some seconds."""
        if not self._queue:
            self._filled.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._filled.wait(), seconds)
        found = b"".join(self._queue)
        self._queue.clear()
        return found


class Feed:
    """The feed of a process.

    Args:
        config: Where MongoDB is.
        protocol: Returns the protocol that reads.
        state: Returns the states of the servers.

    Attributes:
        trouble: Why the trials cannot be watched; empty if they can.
    """

    def __init__(
        self,
        config: Config,
        protocol: Callable[[], Awaitable[ReadOnlyProtocol]],
        state: Callable[[], Mapping[str, str]],
    ) -> None:
        self._config = config
        self._protocol = protocol
        self._state = state
        self._subscribers: set[Subscriber] = set()
        self._recent = RecentChanges()
        self.trouble = ""
        self._cursor = ""
        self._used = 0.0
        self._wanted = asyncio.Event()
        self._watching = asyncio.Event()
        # By uid of a trial whose rows a client wants, the number of its rows that were sent.
        self._sent: dict[str, int] = {}

    async def cursor(self) -> str:
        """Return the cursor after all changes that were seen so far; empty if they cannot be seen."""
        self._touch()
        if not self.trouble:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._watching.wait(), _RETRY_SECONDS)
        return self._cursor

    def _touch(self) -> None:
        self._used = time.monotonic()
        self._wanted.set()

    @contextlib.contextmanager
    def subscribed(self, subscriber: Subscriber, since: str) -> Iterator[None]:
        """Send changes to a client while the block runs.

        Args:
            subscriber: The client.
            since: Cursor after which the client wants changes; empty for those from now on.
        """
        self._touch()
        subscriber.put(live_event("state", self._state(), ""))
        missed = self._recent.after(since, subscriber.filter, MAX_UIDS + 1) if since else []
        if missed is None:
            subscriber.put(live_event("reset", {}, self._cursor))
        elif missed:
            subscriber.put(trials_event(missed, self._cursor))
        self._subscribers.add(subscriber)
        try:
            yield
        finally:
            self._touch()
            self._subscribers.discard(subscriber)

    async def begin_rows(self, uid: str) -> None:
        """Begin to send the rows of a trial that come from now on, unless other clients get them already.

        Args:
            uid: Uid of the trial.
        """
        with contextlib.suppress(TrialStreamError, Refusal):  # otherwise, from the first change on
            protocol = await self._protocol()
            for [rows] in await protocol.fetch_values(["rows"], {"uid": uid}, limit=1):
                self._sent.setdefault(uid, rows)

    def send_state(self) -> None:
        """Send the states of the servers to all clients."""
        message = live_event("state", self._state(), "")
        for each in self._subscribers:
            each.put(message)

    async def run(self) -> None:
        """Watch the trials while there are clients, until cancelled."""
        log = structlog.get_logger("trialstream_dashboard")
        self._touch()  # the first page need not wait for the watch
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._watch()
            except TrialStreamError as error:
                if str(error) != self.trouble:
                    log.info("watch ended", reason=str(error))
                self._set_trouble(str(error))
                await self._pause()
            except Exception:
                log.exception("watch failed")
                await self._pause()
            finally:
                self._watching.clear()

    def _set_trouble(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self.send_state()

    async def _pause(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(_RETRY_SECONDS)
        self._wanted.set()

    async def _watch(self) -> None:
        settings = {each.name: getattr(self._config, each.name) for each in dataclasses.fields(self._config)}
        settings |= {"offline": False, "sync_writes": False}  # these exclude reading alone
        del settings["read_only"]
        watch = ts.watch(fields=_FIELDS, since="now", interval=_INTERVAL, **settings)
        async with watch:
            self._restart(watch.cursor or "")
            self._watching.set()
            self._set_trouble("")
            looks = watch.batches()
            look: asyncio.Task[Any] = asyncio.ensure_future(self._next(looks))
            try:
                while self._subscribers or time.monotonic() - self._used < _IDLE_SECONDS:
                    done, _ = await asyncio.wait([look], timeout=_IDLE_SECONDS)
                    if done:
                        found = look.result()
                        if found.reset:
                            # Another watch begins now: this one would read all trials, which pages do not need.
                            self._wanted.set()
                            return
                        look = asyncio.ensure_future(self._next(looks))
                        await self._take(found)
            finally:
                look.cancel()
                await asyncio.gather(look, return_exceptions=True)
        self._recent.restart("")
        self._cursor = ""

    async def _next(self, looks: AsyncIterator[ts.TrialChanges]) -> ts.TrialChanges:
        """Wait for the next look; the more clients there are, the fewer looks."""
        await asyncio.sleep(len(self._subscribers) / _CLIENTS_PER_SECOND)
        return await anext(looks)

    def _restart(self, cursor: str) -> None:
        """Begin after changes that were not seen: the clients that are there load anew."""
        self._cursor = cursor
        self._recent.restart(cursor)
        self._sent.clear()
        message = live_event("reset", {}, cursor)
        for each in self._subscribers:
            each.put(message)

    async def _take(self, found: ts.TrialChanges) -> None:
        """Send the changes of a look."""
        changed = [
            Changed(each.uid, None, None, is_gone=True)
            if each.trial is None
            else Changed(each.uid, each.trial.project_id, each.trial.group_id, is_gone=False)
            for each in found.changes
        ]
        self._cursor = found.cursor or self._cursor
        self._recent.add(self._cursor, changed)
        uids = by_filter(changed, {each.filter for each in self._subscribers})
        messages = {wanted: trials_event(some, self._cursor) for wanted, some in uids.items()}
        watched = {each.trial for each in self._subscribers}
        shown = {each.uid: each.trial for each in found.changes if each.trial is not None and each.uid in watched}
        for each in self._subscribers:
            if each.trial not in shown and each.filter in messages:
                each.put(messages[each.filter])
        for trial in shown.values():  # both messages together, since sending takes most of the time
            await self._send_trial(trial, messages)
        for uid in self._sent.keys() - watched:
            del self._sent[uid]

    async def _send_trial(self, trial: ts.Trial, messages: Mapping[Filter, bytes]) -> None:
        """Send to the clients that show a trial that it has changed, and its new rows.

        If the rows cannot be read, these clients alone load anew.
        """
        clients = [each for each in self._subscribers if each.trial == trial.uid]
        try:
            rows = await self._rows(trial, {each.curves for each in clients})
        except Exception as error:  # noqa: BLE001 (of whatever this trial is made)
            structlog.get_logger("trialstream_dashboard").warning("rows not sent", trial=trial.uid, reason=str(error))
            reset = live_event("reset", {}, self._cursor)
            rows = {each.curves: reset for each in clients}
        for each in clients:
            for message in (messages.get(each.filter), rows.get(each.curves)):
                if message:
                    each.put(message)

    async def _rows(self, trial: ts.Trial, wanted: AbstractSet[frozenset[str]]) -> dict[frozenset[str], bytes]:
        """Return the event of the new rows of a trial for each choice of metrics; none if there are no new rows."""
        uid, total = trial.uid, trial.rows
        first = self._sent.setdefault(uid, total)
        if total <= first:
            return {}
        self._sent[uid] = total
        protocol = SyncProtocol(await self._protocol())
        return await anyio.to_thread.run_sync(rows_events, protocol, uid, first, total, wanted, self._cursor)
