"""Functions of any kind in a context manager: plain ones, coroutines, and generators of both kinds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, aclosing
from typing import Any, TypeVar

__all__ = ["wrapped"]

F = TypeVar("F", bound=Callable[..., Any])


def wrapped(function: F, around: Callable[[], AbstractContextManager[object]]) -> F:
    """Wrap a function such that each call runs in a context manager of its own.

    Args:
        function: A function, coroutine function, generator function or asynchronous generator function. A generator is
            in its context manager from the first item to the last, or to its end.
        around: Makes the context manager of a call.

    Returns:
        A function with the same signature.
    """
    run: Callable[..., Any]
    if inspect.isasyncgenfunction(function):

        async def run(*args: Any, **kwargs: Any) -> Any:
            with around():
                async with aclosing(function(*args, **kwargs)) as generator:
                    try:
                        item = await anext(generator)
                        while True:
                            try:
                                sent = yield item
                            except GeneratorExit:
                                raise
                            except BaseException as error:  # noqa: BLE001 (what the caller throws into it)
                                item = await generator.athrow(error)
                            else:
                                item = await generator.asend(sent)
                    except StopAsyncIteration:
                        return

    elif inspect.iscoroutinefunction(function):

        async def run(*args: Any, **kwargs: Any) -> Any:
            with around():
                return await function(*args, **kwargs)

    elif inspect.isgeneratorfunction(function):

        def run(*args: Any, **kwargs: Any) -> Any:
            with around():
                return (yield from function(*args, **kwargs))

    else:

        def run(*args: Any, **kwargs: Any) -> Any:
            with around():
                return function(*args, **kwargs)

    return functools.wraps(function)(run)  # type: ignore[return-value]
