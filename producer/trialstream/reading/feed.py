"""`ChangeFeed`: the interface through which `trialstream.watch` sees which trials change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.messages import shown
from trialstream_schemas.model.trial import Trial

__all__ = ["ChangeFeed", "PositionLost", "bad_position"]


class PositionLost(Exception):
    """The changes after the position are not known: everything has to be read again.

    Another projection is live, the collection was dropped, or MongoDB's log of operations no longer reaches back.
    """


def bad_position(position: str) -> InvalidValue:
    """Return the error of a text that is no position of a feed.

    Args:
        position: The text.
    """
    return InvalidValue(f"since: expected None, 'now' or the cursor of a watch, got {shown(position)}")


class ChangeFeed(ABC):
    """The changes of the trials of the projection that is read. Belongs to one event loop, and to one task at a time.

    Every change of a trial is in a result of `changed`, or `changed` raises `PositionLost`; a request that fails or is
    cancelled loses none. A trial that is read after its uid was returned is not older than that change.

    Attributes:
        position: The position after the last result of `changed`, or of `open`; a text for `open`.
    """

    position: str

    @abstractmethod
    async def open(self, position: str | None) -> None:
        """Begin to follow the projection that is live now, instead of what was followed before.

        Args:
            position: Where to begin; None for now.

        Raises:
            InvalidValue: The text is no position.
            PositionLost: The changes after that position are not known any more.
            MongoUnavailable: MongoDB does not answer.
        """

    @abstractmethod
    async def changed(self, seconds: float) -> list[str]:
        """Return the uids of trials that have changed since the last call, in the order of their changes.

        A uid can be in it several times.

        Args:
            seconds: Maximum time to wait for a change if there is none yet.

        Raises:
            PositionLost: The changes are not known any more, or another projection is live.
            MongoUnavailable: MongoDB does not answer.
        """

    @abstractmethod
    async def find(self, uids: Sequence[str], *, matching: bool) -> list[Trial]:
        """Read trials.

        Args:
            uids: Their uids; those that do not exist are left out.
            matching: Whether to leave out the trials that the query does not match.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """

    @abstractmethod
    async def page(self, after: str, limit: int) -> list[Trial]:
        """Read the trials that match, ordered by uid.

        Args:
            after: The uid after which to begin; empty for the first trial.
            limit: Maximum number of trials.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """

    @abstractmethod
    async def matching_uids(self) -> set[str]:
        """Read the uids of all trials that match.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop following; does not raise if MongoDB is away."""
