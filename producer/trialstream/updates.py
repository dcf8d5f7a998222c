"""Updates of a claim: what `fetch_and_update_*` does with the trial or group that it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Update", "update"]


@dataclass(frozen=True)
class Update:
    """A call of a log method on the trial or group that a claim finds; made by `update`.

    Attributes:
        attr: Name of the method.
        args: Positional arguments after the trial or group.
        kwargs: Keyword arguments.
    """

    attr: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def update(attr: str, /, *args: Any, **kwargs: Any) -> Update:
    """Make an update for `fetch_and_update_trial(query, updates=[...])` or `fetch_and_update_group`.

    The claim checks the arguments, as the method does.

    Args:
        attr: Name of a method whose first argument is the trial or group, such as `set_trial_status`.
        *args: Its arguments after the trial or group.
        **kwargs: Its keyword arguments.

    Returns:
        The update.
    """
    return Update(attr, args, kwargs)
