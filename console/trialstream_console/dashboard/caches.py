"""Results that requests share for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import anyio

from trialstream_console.dashboard.context import Context

__all__ = ["PerContext", "Recent"]

T = TypeVar("T")


class Recent(Generic[T]):
    """The latest results by key; one that is being made is waited for, not made twice.

    A key has to be what clients send, such as the text of a query: a query with a relative time differs each time it is
    parsed.

    Args:
        seconds: How long a result is used, seconds.
        most: Maximum number of results; the longest unused one is dropped.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._found: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        # By key, the lock of those that wait for its result.
        self._making: WeakValueDictionary[Hashable, anyio.Lock] = WeakValueDictionary()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """Return a result, made if there is none that is new enough.

        Args:
            key: Key of the result.
            make: Makes it.
        """
        async with self._making.setdefault(key, anyio.Lock()):
            made, found = self._found.get(key, (float("-inf"), None))
            if found is None or time.monotonic() - made > self._seconds:
                found = await make()
                self._found[key] = time.monotonic(), found
            self._found.move_to_end(key)
            while len(self._found) > self._most:
                self._found.popitem(last=False)
            return found


class PerContext(Generic[T]):
    """One object for each context, that is, for each application of the process.

    Args:
        make: Makes the object.
    """

    def __init__(self, make: Callable[[Context], T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[Context, T] = WeakKeyDictionary()

    def of(self, context: Context) -> T:
        """Return the object of a context, made at the first call."""
        if context not in self._made:
            self._made[context] = self._make(context)
        return self._made[context]
