"""Chronos of the tracker: context managers with and without `async`, and decorators."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.aggregators import AggregatorSpec

from trialstream.kafka.chronos import HeldChrono, check_chrono
from trialstream.kafka.commands import is_successful_exit
from trialstream.kafka.log_calls import LogCalls
from trialstream.kafka.session import Rest
from trialstream.tracking.faults import Faults
from trialstream.tracking.values import plain_name
from trialstream.tracking.wrapping import wrapped

__all__ = ["Chrono", "ChronoLog", "ChronoObserver", "Timed"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
# Names that are remembered as checked.
_MAX_NAMES = 1000
# Interval of the rows with the rate of a timed loop, seconds.
_RATE_SECONDS = 1.0


class Loop(Protocol):
    """The part of a tracker that a timed loop needs; `Tracker` documents it."""

    step: int

    def log(self, values: dict[str, Any], /, *, step: int | None = ...) -> None: ...


class ChronoObserver(Protocol):
    """Sees the chronos of a trial as they start and finish, such as to trace them; its errors are counted."""

    def start(self, chrono: HeldChrono) -> None:
        """See a chrono that has started."""

    def finish(self, chrono: HeldChrono, elapsed: float, error: BaseException | None) -> None:
        """See a chrono that has finished.

        Args:
            chrono: The chrono; one that nobody has seen open was not started either.
            elapsed: Its duration, seconds.
            error: The exception that ended it, or None.
        """


class ChronoLog:
    """Takes the chronos of one trial.

    Args:
        calls: Log the chronos.
        trial: Uid of the trial, which is known to exist.
        aggregator: Default aggregator of the elapsed seconds.
        faults: Takes the errors.
        wait: Waits for the rest of a log call.

    Attributes:
        faults: As given.
        observer: Sees the chronos, too; None for nobody.
    """

    def __init__(
        self,
        calls: LogCalls,
        trial: str,
        aggregator: AggregatorSpec,
        faults: Faults,
        wait: Callable[[Rest | None], None],
    ) -> None:
        self._finish = calls.finish_held
        self._held = calls.held
        self._frame = calls.chronos_frame(trial)
        self._trial = trial
        self._aggregator = aggregator
        self.faults = faults
        self.observer: ChronoObserver | None = None
        self._wait = wait
        self._names: set[str] = set()

    def checked(self, name: object) -> str:
        """Convert a name to one that can be logged; that of the trial's own chrono becomes another one."""
        if type(name) is str and name in self._names:
            return name
        plain = plain_name(name)
        try:
            check_chrono(plain)
        except TrialStreamError as error:
            self.faults.report("chrono", error)
            return f"chrono/{plain}"
        if len(self._names) < _MAX_NAMES:
            self._names.add(plain)
        return plain

    def start(self, name: str, aggregator: AggregatorSpec | None, started: float) -> HeldChrono:
        """Start a chrono, which is announced to the log if it runs for long.

        Args:
            name: Name of the chrono, which was checked.
            aggregator: Aggregator of the elapsed seconds; None for the default.
            started: When it was started, seconds on the clock `time.perf_counter`.

        Returns:
            The chrono, for `finish`.
        """
        chrono = HeldChrono(self._trial, name, self._aggregator if aggregator is None else aggregator, started)
        self._held[id(chrono)] = chrono
        if self.observer is not None:
            self.faults.call("chrono", self.observer.start, chrono)
        return chrono

    def finish(
        self, chrono: HeldChrono, elapsed: float, *, failed: bool = False, error: BaseException | None = None
    ) -> None:
        """Log a chrono that has stopped.

        Args:
            chrono: The chrono.
            elapsed: Its duration, seconds.
            failed: Whether it failed.
            error: The exception that ended it, if there is one.
        """
        if self.observer is not None:
            self.faults.call("chrono", self.observer.finish, chrono, elapsed, error)
        try:
            if rest := self._finish(self._frame, chrono, elapsed, failed=failed):
                self._wait(rest)
        except Exception as fault:  # noqa: BLE001 (nothing may raise into training)
            self.faults.report("chrono", fault)

    def unseen(self, name: str) -> HeldChrono:
        """Make a chrono that nobody sees open; it may finish any number of times.

        Args:
            name: Name of the chrono, which was checked.

        Returns:
            The chrono, for `finish`.
        """
        return HeldChrono(self._trial, name, self._aggregator, 0.0)


class Chrono:
    """Measures a block of code, in a trial; made by `Tracker.chrono`.

    Use it as `with t.chrono("epoch"):`, as `async with`, or as a decorator of a function of any kind, whose calls are
    then measured. Chronos may be nested, and those of one name may be open in many tasks and threads at once: call
    `chrono` for each block.

    Args:
        log: Takes the chrono.
        name: Name of the chrono, which was checked.
        aggregator: Aggregator of the elapsed seconds; None for the default.
        synchronize: Called before the chrono starts and before it stops.

    Attributes:
        elapsed: Seconds from the start to the end of the latest block; 0.0 before its end.
    """

    __slots__ = ("_aggregator", "_log", "_name", "_open", "_synchronize", "elapsed")

    def __init__(
        self,
        log: ChronoLog,
        name: str,
        aggregator: AggregatorSpec | None = None,
        synchronize: Callable[[], object] | None = None,
    ) -> None:
        self._log = log
        self._name = name
        self._aggregator = aggregator
        self._synchronize = synchronize
        self._open: list[HeldChrono] = []
        self.elapsed = 0.0

    def __enter__(self) -> Self:
        if self._synchronize is not None:
            self._log.faults.call("chrono", self._synchronize)
        self._open.append(self._log.start(self._name, self._aggregator, time.perf_counter()))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if self._synchronize is not None:
            self._log.faults.call("chrono", self._synchronize)
        self._finish(exc_type, exc_val)

    async def __aenter__(self) -> Self:
        await self._await_synchronize()
        self._open.append(self._log.start(self._name, self._aggregator, time.perf_counter()))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self._await_synchronize()
        self._finish(exc_type, exc_val)

    def __call__(self, function: F) -> F:
        """Decorate a function: each call is measured by a chrono of its own.

        Args:
            function: A function, coroutine function or generator function of either kind.

        Returns:
            A function with the same signature.
        """
        return wrapped(function, lambda: Chrono(self._log, self._name, self._aggregator, self._synchronize))

    def _finish(self, exc_type: type[BaseException] | None, exc_val: BaseException | None) -> None:
        chrono = self._open.pop()
        self.elapsed = elapsed = time.perf_counter() - chrono.started
        if exc_type is None:
            self._log.finish(chrono, elapsed)
            return
        # The caller of a generator that has taken all that it wants is no failure, and neither is a successful exit.
        failed = exc_type is not GeneratorExit and not is_successful_exit(exc_type, exc_val)
        self._log.finish(chrono, elapsed, failed=failed, error=exc_val if failed else None)

    async def _await_synchronize(self) -> None:
        if self._synchronize is None:
            return
        found = self._log.faults.call("chrono", self._synchronize)
        if inspect.isawaitable(found):
            try:
                await found
            except Exception as error:  # noqa: BLE001 (a user's callback)
                self._log.faults.report("chrono", error)


class Timed(Generic[T]):
    """Iterates over batches and measures the loop; made by `Tracker.timed`.

    For each item, the chrono `<name>/load` has the time in which the loop waits for it, and the chrono `<name>` that of
    the body. About once per second, and at the end, a row has the metric `<name>/rows_per_second`.

    Args:
        loop: Takes the steps and the rate.
        chronos: Takes the chronos.
        batches: The batches; asynchronous ones for `async for`.
        name: Name of the chrono.
        steps: Whether `Tracker.step` is increased before each body.
        rows_of: Returns the number of rows of a batch; None for the first dimension of its first array, or 1.
    """

    def __init__(
        self,
        loop: Loop,
        chronos: ChronoLog,
        batches: Iterable[T] | AsyncIterable[T],
        name: str,
        *,
        steps: bool,
        rows_of: Callable[[T], int] | None,
    ) -> None:
        self._loop = loop
        self._chronos = chronos
        self._batches = batches
        self._name = name
        self._load = chronos.unseen(chronos.checked(f"{name}/load"))
        self._steps = steps
        self._rows_of = rows_of or _first_dimension
        # Rows since the last row with the rate, and the time of that row.
        self._rows = 0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]  # a TypeError as of the iterable itself

    def __iter__(self) -> Iterator[T]:
        if not isinstance(self._batches, Iterable):
            raise TypeError(f"timed: expected an iterable, got {type(self._batches).__name__}; use `async for`")
        batches = iter(self._batches)
        self._since = time.perf_counter()
        try:
            while True:
                started = time.perf_counter()
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                body = self._begin(batch, started)
                try:
                    yield batch
                finally:
                    self._end(body)
        finally:
            self._log_rate()

    async def __aiter__(self) -> AsyncIterator[T]:
        if not isinstance(self._batches, AsyncIterable):
            raise TypeError(f"timed: expected an asynchronous iterable, got {type(self._batches).__name__}; use `for`")
        batches = aiter(self._batches)
        self._since = time.perf_counter()
        try:
            while True:
                started = time.perf_counter()
                try:
                    batch = await anext(batches)
                except StopAsyncIteration:
                    return
                body = self._begin(batch, started)
                try:
                    yield batch
                finally:
                    self._end(body)
        finally:
            self._log_rate()

    def _begin(self, batch: T, started: float) -> HeldChrono:
        """Log the time in which a batch was loaded, and start the chrono of its body."""
        chronos = self._chronos
        chronos.finish(self._load, time.perf_counter() - started)
        if self._steps:
            self._loop.step += 1
        try:
            self._rows += int(self._rows_of(batch))  # also of numpy's types
        except Exception as error:  # noqa: BLE001 (a user's callback)
            self._rows += 1
            chronos.faults.report("timed", error)
        return chronos.start(self._name, None, time.perf_counter())

    def _end(self, body: HeldChrono) -> None:
        now = time.perf_counter()
        self._chronos.finish(body, now - body.started)
        if now - self._since >= _RATE_SECONDS:
            self._log_rate()

    def _log_rate(self) -> None:
        now = time.perf_counter()
        if self._rows and now > self._since:
            rate = self._rows / (now - self._since)
            self._loop.log({f"{self._name}/rows_per_second": rate}, step=self._loop.step)
        self._rows, self._since = 0, now


def _first_dimension(batch: object) -> int:
    """Number of rows of a batch: the first dimension of its first array, or 1."""
    if type(batch) is int:  # of a range; the checks below take ten times as long
        return 1
    if isinstance(batch, (tuple, list)):
        batch = batch[0] if batch else None
    elif isinstance(batch, Mapping):
        batch = next(iter(batch.values()), None)
    shape = getattr(batch, "shape", None)
    return int(shape[0]) if shape else 1
