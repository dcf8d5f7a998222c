"""Instrumentation of functions, and log calls on the trial of the present context."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, TypeVar, overload
from weakref import WeakSet

from trialstream_schemas.model.aggregators import AggregatorSpec, StatAggregator

from trialstream.protocol import Step
from trialstream.tracking.chronos import Chrono
from trialstream.tracking.context import current
from trialstream.tracking.tracker import Tracker
from trialstream.tracking.wrapping import wrapped

__all__ = ["chrono", "instrument", "log", "log_arguments", "log_metadata", "note", "tag"]

F = TypeVar("F", bound=Callable[..., Any])

# The number of calls in flight, sampled at each call: its largest value is the peak, and it needs no history.
_IN_FLIGHT = StatAggregator.lazy(0)


@overload
def instrument(function: F, /) -> F: ...
@overload
def instrument(*, name: str | None = None) -> Callable[[F], F]: ...
def instrument(function: F | None = None, /, *, name: str | None = None) -> F | Callable[[F], F]:
    """Instrument a function, coroutine function or generator function: `@ts.instrument`.

    Each call on the trial of its context is a chrono with the name of the function, whose exceptions count in
    `failed_chronos`; the metric `<name>/in_flight` has statistics of the calls that run at the same time in this
    process. Without a trial, the function runs as it is.

    Args:
        function: The function.
        name: Name of the chrono; by default the qualified name of the function.

    Returns:
        A function with the same signature; with `name`, a decorator.
    """
    if function is None:
        return functools.partial(_instrumented, name=name)
    return _instrumented(function, name=None)


def _instrumented(function: F, *, name: str | None) -> F:
    # An object with `__call__`, such as a partial, has the name of its class only.
    return wrapped(
        function, _Calls(name or getattr(function, "__qualname__", None) or type(function).__qualname__).around
    )


_instrumented_calls: WeakSet[_Calls] = WeakSet()


def _begin_in_child() -> None:
    """Begin again in the child of a fork: the threads of the parent, and their calls, are not there."""
    for calls in list(_instrumented_calls):
        calls.begin()


os.register_at_fork(after_in_child=_begin_in_child)


class _Calls:
    """The calls of one instrumented function."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._metric = f"{name}/in_flight"
        self.begin()
        _instrumented_calls.add(self)

    def begin(self) -> None:
        """Begin without calls in flight."""
        self._lock = threading.RLock()  # a signal handler may make a call
        self._in_flight = 0

    def around(self) -> AbstractContextManager[object]:
        """Make the context manager of a call."""
        tracker = current()
        return nullcontext() if tracker is None else _Call(self, tracker)

    def add(self, change: int) -> int:
        """Add to the number of calls in flight, and return it."""
        with self._lock:
            self._in_flight += change
            return self._in_flight

    def start(self, tracker: Tracker) -> Chrono:
        """Log that a call starts, and return its chrono."""
        tracker.log({self._metric: self.add(1)}, aggregator=_IN_FLIGHT)
        return tracker.chrono(self._name)


class _Call:
    """One call of an instrumented function."""

    def __init__(self, calls: _Calls, tracker: Tracker) -> None:
        self._calls = calls
        self._tracker = tracker
        self._chrono: Chrono

    def __enter__(self) -> None:
        self._chrono = self._calls.start(self._tracker)
        self._chrono.__enter__()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._calls.add(-1)
        self._chrono.__exit__(exc_type, exc_val, exc_tb)


# --- Calls on the current trial; without one, they do nothing, so that libraries may log


def log(
    values: Mapping[Any, Any] | None = None,
    /,
    *,
    step: Step | None = None,
    aggregator: AggregatorSpec | None = None,
    **more: Any,
) -> None:
    """Log one row of numbers to the current trial: see `Tracker.log`.

    Args:
        values: Numbers by name.
        step: Step of the row.
        aggregator: Aggregator of the metrics.
        **more: More numbers by name.
    """
    if (tracker := current()) is not None:
        tracker.log(values, step=step, aggregator=aggregator, **more)


def log_arguments(values: object = None, /, **more: Any) -> None:
    """Merge values into the parameters of the current trial: see `Tracker.log_arguments`.

    Args:
        values: Values by name, or an object with fields.
        **more: More values by name.
    """
    if (tracker := current()) is not None:
        tracker.log_arguments(values, **more)


def log_metadata(values: object = None, /, *, aggregator: AggregatorSpec | None = None, **more: Any) -> None:
    """Merge values into the metadata of the current trial: see `Tracker.log_metadata`.

    Args:
        values: Values by name, or an object with fields.
        aggregator: Aggregator of the keys.
        **more: More values by name.
    """
    if (tracker := current()) is not None:
        tracker.log_metadata(values, aggregator=aggregator, **more)


def tag(*names: str, **values: Any) -> None:
    """Add tags to the current trial: see `Tracker.tag`.

    Args:
        *names: Tags without a value.
        **values: Tags with a value.
    """
    if (tracker := current()) is not None:
        tracker.tag(*names, **values)


def note(text: object) -> None:
    """Add a note to the current trial: see `Tracker.note`.

    Args:
        text: The text.
    """
    if (tracker := current()) is not None:
        tracker.note(text)


def chrono(
    name: str, *, aggregator: AggregatorSpec | None = None, synchronize: Callable[[], object] | None = None
) -> AbstractContextManager[object]:
    """Measure a block in the current trial: see `Tracker.chrono`.

    Args:
        name: Name of the chrono.
        aggregator: Aggregator of the elapsed seconds.
        synchronize: Called before the chrono starts and before it stops.

    Returns:
        A context manager.
    """
    tracker = current()
    return nullcontext() if tracker is None else tracker.chrono(name, aggregator=aggregator, synchronize=synchronize)
