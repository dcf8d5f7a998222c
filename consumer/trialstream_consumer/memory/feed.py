"""The `ChangeFeed` over a store in memory, which keeps the last change of every trial: no position is ever lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
from trialstream.pipeline.signals import ProgressSignal
from trialstream.reading.feed import ChangeFeed, PositionLost, bad_position
from trialstream_schemas.model.trial import Trial

from trialstream_consumer.memory.finding import found_documents
from trialstream_consumer.memory.store import Document, MemoryStore

__all__ = ["MemoryFeed"]

_BY_UID = [("_id", 1)]


class MemoryFeed(ChangeFeed):
    """Follows the trials of a store. Belongs to one event loop.

    Args:
        store: The store.
        folded: Notified when events were folded.
        filter_: The query in MongoDB's form.
        projection: The fields of the documents; None for all.
        made: Makes a trial of a document.
    """

    def __init__(
        self,
        store: MemoryStore,
        folded: ProgressSignal,
        filter_: Mapping[str, Any],
        projection: Mapping[str, int] | None,
        made: Callable[[Document], Trial],
    ) -> None:
        self._store = store
        self._folded = folded
        self._filter = filter_
        self._projection = projection
        self._made = made
        # Length of the log at the last result.
        self._length = 0

    @property
    def position(self) -> str:  # type: ignore[override]  # read-only
        """See `ChangeFeed`: the store, and the length of its log."""
        return f"{self._store.name}/{self._length}"

    async def open(self, position: str | None) -> None:
        """See `ChangeFeed.open`."""
        length = self._store.changed(0)[1]
        if position is not None:
            name, _, text = position.rpartition("/")
            if name != self._store.name:
                raise PositionLost
            if not (text.isascii() and text.isdecimal() and int(text) <= length):
                raise bad_position(position)
            length = int(text)
        self._length = length

    async def changed(self, seconds: float) -> list[str]:
        """See `ChangeFeed.changed`."""
        changed, length = self._store.changed(self._length)
        if not changed:
            with anyio.move_on_after(seconds):
                await self._folded.wait()
            changed, length = self._store.changed(self._length)
        self._length = length
        return changed

    async def find(self, uids: Sequence[str], *, matching: bool) -> list[Trial]:
        """See `ChangeFeed.find`."""
        these: dict[str, Any] = {"_id": {"$in": list(uids)}}
        return self._found({"$and": [these, self._filter]} if matching else these) if uids else []

    async def page(self, after: str, limit: int) -> list[Trial]:
        """See `ChangeFeed.page`."""
        return self._found({"$and": [{"_id": {"$gt": after}}, self._filter]}, limit)

    async def matching_uids(self) -> set[str]:
        """See `ChangeFeed.matching_uids`."""
        return {each.uid for each in self._found(self._filter)}

    def _found(self, filter_: Mapping[str, Any], limit: int = 0) -> list[Trial]:
        found = self._store.read(
            "trials", lambda documents: found_documents(documents, filter_, _BY_UID, limit, self._projection)
        )
        return [self._made(each) for each in found]

    async def close(self) -> None:
        """Do nothing: the store is not followed between calls."""
