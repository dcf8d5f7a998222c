"""The time that is left to a call that reads: all of its waits and queries share one timeout.

The budget is a context variable, so it reaches the I/O thread and the threads of the driver.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from trialstream_schemas.errors import QueryTimeout

__all__ = ["in_time", "remaining", "timed_out", "within", "within_timeout"]

T = TypeVar("T")
M = TypeVar("M", bound=Callable[..., Coroutine[Any, Any, Any]])


class _Budget(NamedTuple):
    """The budget of a call.

    Attributes:
        timeout: Its timeout, seconds.
        deadline: When it ends, on the monotonic clock.
    """

    timeout: float
    deadline: float


_budget: ContextVar[_Budget | None] = ContextVar("read_budget", default=None)


def remaining(timeout: float) -> float:
    """Return the time that is left to this call.

    Args:
        timeout: The time if there is no budget, and the maximum otherwise, seconds.

    Returns:
        Seconds; 0 after the deadline.
    """
    budget = _budget.get()
    return timeout if budget is None else max(0.0, min(timeout, budget.deadline - time.monotonic()))


@contextmanager
def within(timeout: float) -> Iterator[None]:
    """Give a block a budget, or a part of the budget of the call that it belongs to.

    Args:
        timeout: Seconds.
    """
    outer = _budget.get()
    whole = timeout if outer is None else outer.timeout
    token = _budget.set(_Budget(whole, time.monotonic() + remaining(timeout)))
    try:
        yield
    finally:
        _budget.reset(token)


def within_timeout(method: M) -> M:
    """Make all reads of a method of a protocol share the timeout of its session."""

    @functools.wraps(method)
    async def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        with within(self._session.timeout):
            return await method(self, *args, **kwargs)

    return call  # type: ignore[return-value]  # the parameters are those of the method


def in_time(documents: Iterable[T]) -> Iterator[T]:
    """Yield documents until the budget ends.

    Args:
        documents: The documents.

    Raises:
        QueryTimeout: The budget has ended.
    """
    budget = _budget.get()
    for each in documents:
        if budget is not None and time.monotonic() > budget.deadline:
            raise timed_out(budget.timeout)
        yield each


def timed_out(timeout: float) -> QueryTimeout:
    """Return the error of a query that took too long.

    Args:
        timeout: The timeout if there is no budget, seconds.
    """
    budget = _budget.get()
    seconds = timeout if budget is None else budget.timeout
    return QueryTimeout(
        f"the query took longer than {seconds:g} s and was ended: narrow the query, limit its result, or connect with "
        "a longer timeout"
    )
