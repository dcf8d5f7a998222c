"""`trialstream.watch`: the trials that match a query, as they change.

A watch has a read-only protocol of its own. Its looks run in the I/O thread of that protocol (`watching.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from numbers import Real
from types import TracebackType
from typing import Any, NoReturn, Self

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.messages import shown

from trialstream.connect import connect
from trialstream.protocol import Query, refuse_copy
from trialstream.reading.feed import bad_position
from trialstream.reading.fields import partial_fields
from trialstream.reading.paths import TRIAL_FIELDS
from trialstream.reading.query import translate
from trialstream.reading.read_only import ReadOnlyProtocol
from trialstream.streaming.changes import TrialChange, TrialChanges
from trialstream.streaming.watching import Look, Watching

__all__ = ["SyncWatch", "Watch", "watch"]


class _Watch:
    """The common part of a watch in async code and a blocking one; the parameters are those of `watch`."""

    def __init__(
        self,
        query: Query | None,
        fields: Sequence[str] | None,
        since: str | None,
        interval: float,
        url: str | None,
        settings: dict[str, Any],
    ) -> None:
        translate({} if query is None else query, TRIAL_FIELDS)
        partial_fields(fields, "trials")
        if since is not None and not (isinstance(since, str) and (since == "now" or "/" in since)):
            raise bad_position(since)
        self._asked = (query, fields)
        self._since = since
        self._interval = _checked_interval(interval)
        self._protocol: ReadOnlyProtocol = connect(url, **{**settings, "read_only": True})
        self._watching: Watching | None = None
        self._number = 0
        self._cursor = None if since == "now" else since
        # Changes that were read and not yet returned, and the cursor after them.
        self._waiting: deque[TrialChange] = deque()
        self._next_cursor = self._cursor

    def __reduce__(self) -> NoReturn:
        refuse_copy(self)

    @property
    def cursor(self) -> str | None:
        """The position after the changes that were returned: store it, and give it as `since` to a later watch.

        None until all that matched at the start was returned, and in a reset.
        """
        return self._cursor

    async def _start(self) -> None:
        """Open the feed, in the I/O thread."""
        query, fields = self._asked
        watching = Watching(self._protocol.changes(query, fields=fields), self._since, self._interval)
        await watching.start()
        self._watching = watching
        self._cursor = self._next_cursor = watching.cursor

    async def _look(self) -> Look:
        """Wait for the next look, in the I/O thread."""
        assert self._watching is not None
        return await self._watching.look_after(self._number)

    async def _stop(self) -> None:
        """Close the feed, in the I/O thread."""
        if self._watching is not None:
            await self._watching.close()

    def _take(self, look: Look) -> TrialChanges:
        """Take over the result of a look, whose changes are then waiting."""
        self._number = look.number
        self._waiting.extend(look.found.changes)
        self._next_cursor = look.found.cursor
        if not self._waiting:
            self._cursor = self._next_cursor
        return look.found

    def _pop(self) -> TrialChange:
        """Take the next change that waits."""
        change = self._waiting.popleft()
        if not self._waiting:
            self._cursor = self._next_cursor
        return change

    def _take_all(self) -> tuple[TrialChange, ...]:
        """Take all changes that wait."""
        changes = tuple(self._waiting)
        self._waiting.clear()
        self._cursor = self._next_cursor
        return changes


def _checked_interval(interval: object) -> float:
    seconds = -1.0 if isinstance(interval, bool) or not isinstance(interval, Real) else float(interval)
    if not 0 <= seconds < math.inf:
        raise InvalidValue(f"interval: expected a number of seconds from 0 on, got {shown(interval)}")
    return seconds


class Watch(_Watch):
    """The trials that match, as they change; made by `trialstream.watch`.

    `async for change in watch` opens the watch and closes it at the end. Within `async with watch`, it stays open for
    several loops: a loop that ends (by `break`, a timeout or a cancellation) loses no change.
    """

    async def __aenter__(self) -> Self:
        await self._protocol.open()
        try:
            await self._protocol.lifecycle.call(self._start)
        except BaseException:
            await self._protocol.close(failed=True)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            await self._protocol.lifecycle.call(self._stop)
        finally:
            await self._protocol.close(failed=exc_type is not None)

    async def __aiter__(self) -> AsyncIterator[TrialChange]:
        if self._watching is None:
            async with self:
                async for change in self:
                    yield change
        while True:
            while self._waiting:
                yield self._pop()
            self._take(await self._protocol.lifecycle.call(self._look))

    async def batches(self) -> AsyncIterator[TrialChanges]:
        """Yield all changes of a look together, for programs that update what they show; otherwise as the watch itself.

        Returns:
            The changes of one look, of at most 256 trials. The first look of a reset, and the last, which has a cursor
            again, can be without any.

        Raises:
            MongoUnavailable: MongoDB did not answer when the watch was opened, or refuses the user.
            ProtocolClosed: The watch was closed.
        """
        if self._watching is None:
            async with self:
                async for changes in self.batches():
                    yield changes
        if self._waiting:  # of a loop over single changes
            yield TrialChanges(self._take_all(), reset=False, cursor=self._cursor)
        while True:
            before = self._cursor
            found = self._take(await self._protocol.lifecycle.call(self._look))
            if self._take_all() or found.reset or before is None:
                yield found


class SyncWatch(_Watch):
    """The trials that match, as they change, for code that is not async; made by `trialstream.sync.watch`.

    `for change in watch` opens the watch and closes it at the end; within `with watch`, it stays open.
    """

    def __enter__(self) -> Self:
        self._protocol.lifecycle.open_blocking()
        try:
            self._protocol.lifecycle.run(self._start)
        except BaseException:
            self._protocol.lifecycle.close_blocking(failed=True)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            self._protocol.lifecycle.run(self._stop)
        finally:
            self._protocol.lifecycle.close_blocking(failed=exc_type is not None)

    def __iter__(self) -> Iterator[TrialChange]:
        if self._watching is None:
            with self:
                yield from self
        while True:
            while self._waiting:
                yield self._pop()
            self._take(self._protocol.lifecycle.run(self._look))

    def batches(self) -> Iterator[TrialChanges]:
        """Yield all changes of a look together: see `Watch.batches`.

        Returns:
            The changes of one look.

        Raises:
            MongoUnavailable: MongoDB did not answer when the watch was opened, or refuses the user.
            ProtocolClosed: The watch was closed.
        """
        if self._watching is None:
            with self:
                yield from self.batches()
        if self._waiting:
            yield TrialChanges(self._take_all(), reset=False, cursor=self._cursor)
        while True:
            before = self._cursor
            found = self._take(self._protocol.lifecycle.run(self._look))
            if self._take_all() or found.reset or before is None:
                yield found


def watch(
    query: Query | None = None,
    *,
    fields: Sequence[str] | None = None,
    since: str | None = None,
    interval: float = 0.25,
    url: str | None = None,
    **settings: Any,
) -> Watch:
    """Watch trials: `async for change in trialstream.watch({"status": "Running"}): ...`.

    It begins with all trials that match now, and goes on with each trial that changes or stops matching, until the loop
    is left. Several changes of a trial between two looks come once, with the latest state. A change is anything that
    the fold writes: a metric, a status, a tag, a heartbeat. MongoDB may be away meanwhile: the watch waits for it.

    If changes may be missing (a rebuild has made another projection the live one, the database was dropped, or `since`
    is older than what MongoDB's oplog holds), all trials that match come again. Of a trial that stopped matching
    between such a `since` and the start, nothing comes.

    Args:
        query: As for `Protocol.fetch_trials`; None for all trials.
        fields: As for `Protocol.fetch_trials`: only these are read; None for all.
        since: Where to begin: None with all trials that match now; "now" with the changes from now on; the `cursor` of
            an earlier watch with the changes since then, where a trial that does not match comes too if it has changed
            since then, whether or not it had matched.
        interval: Minimum time between two looks, seconds. After a pause, a change comes at once.
        url: As for `trialstream.connect`; `memory:NAME` for the log of that name in this process.
        **settings: As for `trialstream.connect`. The watch is read-only, and needs MongoDB alone.

    Returns:
        The watch: an async iterable of `TrialChange`, and an async context manager.

    Raises:
        ConfigError: A setting is invalid; the message names it.
        InvalidValue: `since` is no cursor, or the interval is invalid.
        QueryError: The query or the fields are not supported; the message names the part.
    """
    return Watch(query, fields, since, interval, url, settings)
