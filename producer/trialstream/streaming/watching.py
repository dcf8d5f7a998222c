"""Looking at changes: what a watch reads and sends, in the I/O thread.

Invariants:

- Each change of a trial that matches, or has matched, is followed by a look that reads the trial: at least once.
- A cursor is the position before everything that was not delivered yet. It is None until all that matches was sent.
- Results are numbered, and one that the caller did not get, since it was cancelled, is returned again.

A *reset* sends all that matches, in pages by uid, and then what does not match any more. The feed is opened before it
reads, so a change during the reset is seen after it. A reset begins a watch without a cursor, and takes place whenever
changes may be missing: another projection is live, the collection was dropped, or the cursor is too old.

To see that a trial stops matching, the uids of all trials that match are held: some 100 bytes for each.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from typing import NamedTuple

import anyio
from trialstream_schemas.errors import MongoUnavailable

from trialstream.reading.diagnosis import is_refusal
from trialstream.reading.feed import ChangeFeed, PositionLost
from trialstream.streaming.changes import TrialChange, TrialChanges

__all__ = ["Look", "Watching"]

logger = logging.getLogger("trialstream")

# Trials that are read at once: a document has up to some MB.
_TRIALS_AT_ONCE = 256
# How long a wait for changes goes on without a result, seconds: results without changes have a newer cursor.
_IDLE_SECONDS = 5.0
# How long a single wait lasts, seconds.
_WAIT_SECONDS = 1.0
# Pauses between attempts while MongoDB is away, seconds.
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)


class Look(NamedTuple):
    """The result of a look.

    Attributes:
        number: 1, 2, 3 …
        found: What was found; possibly no change, with a newer cursor.
    """

    number: int
    found: TrialChanges


class _Reset:
    """A reset that goes on.

    Attributes:
        after: Uid of the last trial that was sent; empty before the first.
        seen: The trials that were sent.
    """

    def __init__(self) -> None:
        self.after = ""
        self.seen: set[str] = set()


class Watching:
    """The state of a watch. Belongs to one event loop, and to one caller at a time.

    Args:
        feed: The changes, not open yet.
        since: None for a reset first, "now", or a cursor.
        interval: Minimum time between looks, seconds.
    """

    def __init__(self, feed: ChangeFeed, since: str | None, interval: float) -> None:
        self._feed = feed
        self._since = since
        self._interval = interval
        # None while the feed has to be opened for a reset.
        self._is_open = False
        self._reset: _Reset | None = None
        # Trials that match, as far as they were sent, and trials that have changed since they were read.
        self._matching: set[str] = set()
        self._changed: dict[str, None] = {}
        self._cursor: str | None = None
        # Whether a trial may have matched before the cursor, although it is not in `_matching`.
        self._is_catching_up = False
        self._looked = -math.inf
        self._last = Look(0, TrialChanges((), reset=False, cursor=None))
        self._failures = 0

    async def start(self) -> None:
        """Open the feed.

        Raises:
            InvalidValue: `since` is no cursor.
            MongoUnavailable: MongoDB does not answer.
        """
        if self._since is None:
            await self._begin_reset()
            return
        try:
            await self._feed.open(None if self._since == "now" else self._since)
            # Read after the feed was opened: what matched at the cursor and is not here has changed since then.
            self._matching = await self._feed.matching_uids()
        except PositionLost:
            self._lose()
            return
        self._is_open = True
        self._is_catching_up = self._since != "now"
        self._cursor = self._feed.position

    @property
    def cursor(self) -> str | None:
        """The position before the changes that were not read yet; None until all that matches was read."""
        return self._cursor

    async def close(self) -> None:
        """Close the feed."""
        await self._feed.close()

    async def look_after(self, number: int) -> Look:
        """Wait for changes, but no longer than some seconds, and look at them.

        Args:
            number: Number of the last look that the caller has got; 0 for none.

        Returns:
            The next look.

        Raises:
            MongoUnavailable: MongoDB refuses the user. While it does not answer, the look waits.
            QueryError: MongoDB refuses the query.
        """
        while self._last.number <= number:
            try:
                found = await (self._next_page() if self._reset or not self._is_open else self._next_changes())
            except PositionLost:
                self._lose()
            except MongoUnavailable as error:
                if is_refusal(error.__cause__ if isinstance(error.__cause__, Exception) else None):
                    raise
                await self._pause(error)
            else:
                if self._failures:
                    self._failures = 0
                    logger.warning("watch: MongoDB answers again")
                self._last = Look(self._last.number + 1, found)
        return self._last

    async def _pause(self, error: MongoUnavailable) -> None:
        if not self._failures:
            logger.warning("watch: waits for MongoDB, and goes on then: %s", error)
        await anyio.sleep(_PAUSES[min(self._failures, len(_PAUSES) - 1)])
        self._failures += 1

    # --- Resets

    def _lose(self) -> None:
        """Begin again, since changes may be missing."""
        logger.warning("watch: sends all trials that match again, since changes may be missing")
        self._is_open, self._reset, self._cursor = False, None, None

    async def _begin_reset(self) -> None:
        await self._feed.open(None)
        self._is_open, self._reset = True, _Reset()
        self._changed.clear()
        self._is_catching_up = False

    async def _next_page(self) -> TrialChanges:
        if not self._is_open:
            await self._begin_reset()
        reset = self._reset
        assert reset is not None
        page = await self._feed.page(reset.after, _TRIALS_AT_ONCE)
        is_first = not reset.after
        if page:
            reset.after = page[-1].uid
            uids = {each.uid for each in page}
            reset.seen |= uids
            self._matching |= uids
            return TrialChanges(tuple(TrialChange(each.uid, each, True) for each in page), reset=is_first, cursor=None)
        gone = sorted(self._matching - reset.seen)
        found = {each.uid: each for each in await self._feed.find(gone, matching=False)}
        self._matching, self._reset = reset.seen, None
        self._cursor, self._looked = self._feed.position, time.monotonic()
        changes = tuple(TrialChange(uid, found.get(uid), False) for uid in gone)
        return TrialChanges(changes, reset=is_first, cursor=self._cursor)

    # --- Changes

    async def _next_changes(self) -> TrialChanges:
        await self._gather()
        uids = list(itertools.islice(self._changed, _TRIALS_AT_ONCE))
        trials = {each.uid: each for each in await self._feed.find(uids, matching=True)}
        matching = set(trials)
        gone = [uid for uid in uids if uid not in matching and (self._is_catching_up or uid in self._matching)]
        trials |= {each.uid: each for each in await self._feed.find(gone, matching=False)}
        sent = matching.union(gone)
        for uid in uids:
            del self._changed[uid]
        self._matching |= matching
        self._matching -= set(gone)
        self._looked = time.monotonic()
        if not self._changed:
            self._cursor = self._feed.position
        changes = tuple(TrialChange(uid, trials.get(uid), uid in matching) for uid in uids if uid in sent)
        return TrialChanges(changes, reset=False, cursor=self._cursor)

    async def _gather(self) -> None:
        """Gather changes until a look is due; without changes, until a newer cursor is due."""
        idle_until = time.monotonic() + _IDLE_SECONDS
        while True:
            left = self._looked + self._interval - time.monotonic()
            if self._changed and left > 0 and len(self._changed) < _TRIALS_AT_ONCE:
                await anyio.sleep(left)
            found = await self._feed.changed(0 if self._changed else _WAIT_SECONDS)
            self._changed |= dict.fromkeys(found)
            if not self._changed:
                self._is_catching_up = False
                self._cursor = self._feed.position
                if time.monotonic() > idle_until:
                    return
            elif time.monotonic() >= self._looked + self._interval or len(self._changed) >= _TRIALS_AT_ONCE:
                return
