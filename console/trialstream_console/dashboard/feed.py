"""The feed of `/live`: one for a process, shared by its clients, over one watch of all trials.

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
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import anyio.to_thread
import structlog
import trialstream as ts
from trialstream.config import Config
from trialstream.reading.read_only import ReadOnlyProtocol
from trialstream.sync import SyncProtocol
from trialstream_schemas.errors import TrialStreamError

from trialstream_console.dashboard.live_events import live_event, rows_events, trials_event
from trialstream_console.dashboard.refusals import Refusal

__all__ = ["Feed", "Subscriber"]

_MAX_QUEUE = 64
# Batches that a client can go on from: five minutes of four a second.
_MAX_PAST = 1200
_INTERVAL = 0.25
_IDLE_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_FIELDS = ["project_id", "group_id", "rows"]


class _Changed(NamedTuple):
    """A trial that changed."""

    uid: str
    project: str | None
    group: str | None
    rows: int


class _Batch(NamedTuple):
    """The trials that changed in a look, and the cursor after it."""

    cursor: str
    changed: tuple[_Changed, ...]


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
        self._past: deque[_Batch] = deque(maxlen=_MAX_PAST)
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
        missed = self._missed(since)
        if missed is None:
            subscriber.put(live_event("reset", {}, self._cursor))
        elif changed := _selected(missed, subscriber.filter):
            subscriber.put(trials_event([each.uid for each in changed], self._cursor))
        self._subscribers.add(subscriber)
        try:
            yield
        finally:
            self._touch()
            self._subscribers.discard(subscriber)

    def _missed(self, since: str) -> list[_Changed] | None:
        """Return the changes after a cursor; None if they are not known."""
        if not since or since == self._cursor:
            return []
        cursors = [each.cursor for each in self._past]
        if since not in cursors:
            return None
        latest = {each.uid: each for batch in list(self._past)[cursors.index(since) + 1 :] for each in batch.changed}
        return list(latest.values())

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
            look: asyncio.Task[Any] = asyncio.ensure_future(anext(looks))
            try:
                while self._subscribers or time.monotonic() - self._used < _IDLE_SECONDS:
                    done, _ = await asyncio.wait([look], timeout=_IDLE_SECONDS)
                    if done:
                        found = look.result()
                        look = asyncio.ensure_future(anext(looks))
                        await self._take(found)
            finally:
                look.cancel()
                await asyncio.gather(look, return_exceptions=True)
        self._past.clear()
        self._cursor = ""

    def _restart(self, cursor: str) -> None:
        """Begin after changes that were not seen: all clients load anew."""
        if self._cursor:
            self._reset()
        self._cursor = cursor
        self._past.clear()
        self._past.append(_Batch(cursor, ()))
        self._sent.clear()

    def _reset(self) -> None:
        message = live_event("reset", {}, self._cursor)
        for each in self._subscribers:
            each.put(message)

    async def _take(self, found: ts.TrialChanges) -> None:
        """Send the changes of a look."""
        if found.reset:
            self._cursor = found.cursor or self._cursor
            self._past.clear()
            self._past.append(_Batch(self._cursor, ()))
            self._sent.clear()
            self._reset()
            return
        changed = tuple(
            _Changed(each.uid, None, None, 0)
            if each.trial is None
            else _Changed(each.uid, each.trial.project_id, each.trial.group_id, each.trial.rows)
            for each in found.changes
        )
        self._cursor = found.cursor or self._cursor
        self._past.append(_Batch(self._cursor, changed))
        messages: dict[tuple[str | None, str | None], bytes] = {}
        for each in self._subscribers:
            if each.filter not in messages:
                some = _selected(changed, each.filter)
                messages[each.filter] = trials_event([each.uid for each in some], self._cursor) if some else b""
            if messages[each.filter]:
                each.put(messages[each.filter])
        watched = {each.trial for each in self._subscribers}
        for one in changed:
            if one.uid in watched:
                await self._send_rows_or_reset(one)
        for uid in self._sent.keys() - watched:
            del self._sent[uid]

    async def _send_rows_or_reset(self, changed: _Changed) -> None:
        """Send the new rows of a trial; if they cannot be read, its clients alone load anew."""
        try:
            await self._send_rows(changed)
        except Exception as error:  # noqa: BLE001 (of whatever this trial is made)
            structlog.get_logger("trialstream_dashboard").warning("rows not sent", trial=changed.uid, reason=str(error))
            for each in self._subscribers:
                if each.trial == changed.uid:
                    each.put(live_event("reset", {}, self._cursor))

    async def _send_rows(self, changed: _Changed) -> None:
        """Send the new rows of a trial to the clients that show it."""
        uid, total = changed.uid, changed.rows
        first = self._sent.setdefault(uid, total)
        if total <= first:
            return
        self._sent[uid] = total
        clients = [each for each in self._subscribers if each.trial == uid]
        wanted = {each.curves for each in clients}
        protocol = SyncProtocol(await self._protocol())
        events = await anyio.to_thread.run_sync(rows_events, protocol, uid, first, total, wanted, self._cursor)
        for each in clients:
            each.put(events[each.curves])


def _selected(changed: Iterable[_Changed], wanted: tuple[str | None, str | None]) -> list[_Changed]:
    """Return the changes of a project and a group; None is any. A trial that does not exist any more is of each."""
    project, group = wanted
    return [
        each
        for each in changed
        if (each.project, each.group, each.rows) == (None, None, 0)
        or ((project is None or each.project == project) and (group is None or each.group == group))
    ]
