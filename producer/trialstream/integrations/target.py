"""The trial that an integration logs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Self, TypeVar

from trialstream.protocol import Step
from trialstream.tracking import Tracker, current

__all__ = ["Target", "numbers_in"]

T = TypeVar("T")


def numbers_in(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Leave out what is no number, from reports that frameworks mix of everything.

    Args:
        values: Values by name, nested or not.

    Returns:
        The same without texts, truth values, lists and None.
    """
    found = {name: numbers_in(x) if isinstance(x, Mapping) else x for name, x in values.items()}
    return {name: x for name, x in found.items() if not isinstance(x, (str, bytes, bool, list, tuple, set, NoneType))}


class Target:
    """A given tracker, or at each call the current one; without any, calls do nothing.

    Frameworks copy and pickle their callbacks. A copy has the same tracker; what is unpickled elsewhere has the current
    tracker of its process, such as that of `track.attach`.

    Args:
        tracker: The tracker; None for the current one.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._given = tracker

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Target], tuple[()]]:
        return Target, ()

    @property
    def tracker(self) -> Tracker | None:
        """The tracker, if there is one."""
        return current() if self._given is None else self._given

    def call(self, where: str, function: Callable[..., T], *args: Any) -> T | None:
        """Call a method of the framework or of the user, which may raise: see `Faults.call`.

        Args:
            where: Name of the integration.
            function: The method.
            *args: Its arguments.

        Returns:
            What the method returns; None after an error, and without a tracker.
        """
        tracker = self.tracker
        return None if tracker is None else tracker.faults.call(where, function, *args)

    def log(self, values: Mapping[Any, Any] | None, *, step: Step | None = None) -> None:
        """Log a row: see `Tracker.log`.

        Args:
            values: Numbers by name.
            step: Step of the row.
        """
        if (tracker := self.tracker) is not None:
            tracker.log(values, step=step)

    def log_arguments(self, values: object) -> None:
        """Merge values into the parameters: see `Tracker.log_arguments`.

        Args:
            values: Values by name, or an object with fields.
        """
        if (tracker := self.tracker) is not None:
            tracker.log_arguments(values)

    def log_metadata(self, values: object) -> None:
        """Merge values into the metadata: see `Tracker.log_metadata`.

        Args:
            values: Values by name, or an object with fields.
        """
        if (tracker := self.tracker) is not None:
            tracker.log_metadata(values)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set results: see `Tracker.summary`.

        Args:
            values: Results by name.
        """
        if (tracker := self.tracker) is not None:
            tracker.summary.update(values)
