"""The line of the user's code that a call comes from: warnings point there, from every thread."""

from __future__ import annotations

import inspect
import warnings
from contextvars import ContextVar
from typing import Any, NamedTuple

from trialstream_schemas.messages import in_message

__all__ = ["UserLine", "on_behalf_of", "user_line", "warn"]

# Packages between the user's code and a warning: this one, and those that call coroutines and context managers.
_PASSED = frozenset({"anyio", "asyncio", "concurrent", "contextlib", "functools", "multiprocessing", "threading"})


class UserLine(NamedTuple):
    """A line of the user's code.

    Attributes:
        file: Path of its file.
        line: Number of the line.
        module: Name of its module.
        registry: The warnings that its module has issued, which Python keeps so that it can suppress repetitions.
    """

    file: str
    line: int
    module: str
    registry: dict[Any, Any]


# The line on whose behalf a task of the I/O thread runs (`trialstream.sync`); None if there is none.
on_behalf_of: ContextVar[UserLine | None] = ContextVar("on_behalf_of", default=None)


def user_line() -> UserLine | None:
    """Return the line that this call comes from; None outside of all code of the user, as in exit handlers."""
    if (line := on_behalf_of.get()) is not None:
        return line
    frame = inspect.currentframe()
    while frame is not None:
        module: str = frame.f_globals.get("__name__") or ""
        package = module.partition(".")[0]
        if package not in _PASSED and package != "trialstream":
            registry = frame.f_globals.setdefault("__warningregistry__", {})
            return UserLine(frame.f_code.co_filename, frame.f_lineno, module, registry)
        frame = frame.f_back
    return None


def warn(message: str, line: UserLine | None) -> None:
    """Issue a `RuntimeWarning` on one printable line for a line of the user's code; None if it is unknown."""
    file, number, module, registry = line or UserLine("trialstream", 0, "trialstream", {})
    warnings.warn_explicit(in_message(message), RuntimeWarning, file, number, module, registry)
