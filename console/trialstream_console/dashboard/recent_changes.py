"""The trials that have changed last, for clients that go on after a cursor."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias

from trialstream.reading.mongo_feed import parts_of
from trialstream_schemas.errors import InvalidValue

__all__ = ["Changed", "Filter", "RecentChanges", "by_filter"]

Filter: TypeAlias = tuple[str | None, str | None]
"""Uids of the project and of the group whose trials are wanted; None for any."""

# Looks that a client can go on from: those of three minutes at least.
_MAX_LOOKS = 1200
# Trials that are looked through for a client, in some 5 ms of the event loop. A page that has missed more loads anew.
_MAX_CHANGED = 20_000


class Changed(NamedTuple):
    """A trial that has changed.

    Attributes:
        uid: Its uid.
        project: Uid of its project; None without one.
        group: Uid of its group; None without one.
        is_gone: Whether it does not exist any more, so that its project and group are unknown.
    """

    uid: str
    project: str | None
    group: str | None
    is_gone: bool


def by_filter(changed: Iterable[Changed], filters: AbstractSet[Filter]) -> dict[Filter, list[str]]:
    """Return the uids that each filter takes; all take a trial that is gone.

    Args:
        changed: Trials that have changed.
        filters: The filters.
    """
    found = defaultdict(list)
    for each in changed:
        fits = {(None, None), (each.project, None), (None, each.group), (each.project, each.group)}
        for wanted in filters if each.is_gone else filters & fits:
            found[wanted].append(each.uid)
    return found


class RecentChanges:
    """The trials that have changed in the last looks of a watch, each with the number of its last look.

    Cursors are ordered as the changes are, whichever process has made them: so a cursor of another worker stands
    between two looks of this one, and a client gets all changes since the earlier look. Some may come a second time.
    """

    def __init__(self) -> None:
        self.restart("")

    def restart(self, cursor: str) -> None:
        """Forget all changes.

        Args:
            cursor: The cursor after which changes are known; empty if none are.
        """
        self._projection, self._token = parts_of(cursor) if cursor else ("", "")
        self._look = 0
        # The cursors in ascending order, and for each the look that was the first to end at it: those of later looks
        # that end at it are after it.
        self._tokens = [self._token] if cursor else []
        self._looks = [0] if cursor else []
        self._changed: OrderedDict[str, tuple[int, Changed]] = OrderedDict()

    def add(self, cursor: str, changed: Iterable[Changed]) -> None:
        """Add a look.

        Args:
            cursor: The cursor after it, of the same projection as that of the start.
            changed: The trials that have changed.
        """
        self._look += 1
        for each in changed:
            self._changed[each.uid] = self._look, each
            self._changed.move_to_end(each.uid)
        _, token = parts_of(cursor)
        if token > self._token:
            self._token = token
            self._tokens.append(token)
            self._looks.append(self._look)
        del self._tokens[:-_MAX_LOOKS], self._looks[:-_MAX_LOOKS]
        while len(self._changed) > _MAX_CHANGED:
            _, (look, _) = self._changed.popitem(last=False)
            unknown = bisect_left(self._looks, look)
            del self._tokens[:unknown], self._looks[:unknown]

    def after(self, cursor: str, wanted: Filter, most: int) -> list[str] | None:
        """Return the uids of trials that have changed after a cursor, the latest first.

        Args:
            cursor: The cursor, of this process or of another one.
            wanted: Which trials are wanted.
            most: Maximum number of uids.

        Returns:
            The uids; None if the changes are not known.
        """
        try:
            projection, token = parts_of(cursor)
        except InvalidValue:
            return None
        place = bisect_right(self._tokens, token)
        if projection != self._projection or not place:
            return None
        (project, group), last = wanted, self._looks[place - 1]
        found: list[str] = []
        for uid, (look, each) in reversed(self._changed.items()):
            if look <= last or len(found) == most:
                break
            if each.is_gone or (project in (None, each.project) and group in (None, each.group)):
                found.append(uid)
        return found
