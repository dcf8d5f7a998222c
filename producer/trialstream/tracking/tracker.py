"""The tracker: the calls of training code that are the same in plain and in async code, since they do not wait."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from trialstream_schemas.errors import InvalidType, InvalidValue, TrialStreamError
from trialstream_schemas.model.aggregators import (
    AggregatorSpec,
    RingAggregator,
    TimeSeriesAggregator,
    timeseries_aggregator,
)
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Trial

from trialstream.kafka.log_calls import CHRONO_AGGREGATOR
from trialstream.protocol import Step
from trialstream.runtime.shutdown import at_exit
from trialstream.tracking import termination
from trialstream.tracking.chronos import Chrono, ChronoLog, Timed
from trialstream.tracking.definitions import Definition, Definitions
from trialstream.tracking.faults import Faults, Health
from trialstream.tracking.handle import Handle, Mark, write_mark
from trialstream.tracking.launch import Launch
from trialstream.tracking.rows import flat_row, numbers_of, step_of
from trialstream.tracking.summary import Summary
from trialstream.tracking.values import plain_name, plain_value, plain_values

if TYPE_CHECKING:
    from trialstream.kafka.protocol import LoggingProtocol
    from trialstream.kafka.session import Rest

__all__ = ["Tracker"]

T = TypeVar("T")
Where: TypeAlias = Literal["all", "rank0"]
"""The ranks that log: all, or the one with the number 0; a process without a rank always logs."""

# Notes that a trial keeps; MongoDB holds them in its document.
_NOTES = RingAggregator.lazy(100)


class Tracker:
    """A running trial, as training code sees it; made by `track`.

    No method raises an error of trialstream into training: errors are logged once for each kind, and counted in
    `health.errors`. Values may be of any type (`tracking/values.py` has the table). All methods may be called from any
    thread and task. A call waits only if memory and spool are full, as long as the setting `when_full` says.

    Attributes:
        trial: The trial, as the log addresses it; pass it to the methods of a protocol.
        step: Number of bodies that loops of `timed` have begun; the user may set it. After a resume it begins with the
            step of the checkpoint.
        rank: Number of this process in a distributed run; None outside of one.
        resume_step: Step of the checkpoint from which the trial was resumed; None if it was not.
        resume_path: Path of that checkpoint; None if it is not known.
        summary: Results that are set as items: `t.summary["accuracy"] = 0.9`.
        chronos: Takes the chronos.
        faults: Takes the errors.
    """

    def __init__(
        self, protocol: LoggingProtocol, handle: Handle, faults: Faults, place: Launch, resume: Mark | None
    ) -> None:
        self.trial = handle.trial
        self.rank = place.rank
        self.resume_step = None if resume is None else resume.step
        self.resume_path = None if resume is None else resume.path
        self.step = 0 if self.resume_step is None else int(self.resume_step)
        self.faults = faults
        self.summary = Summary(self.log_metadata)
        self.is_open = True
        self._protocol = protocol
        self._calls = protocol.log
        self._handle = handle
        self._definitions = Definitions()
        self._has_definitions = False
        self._uid = self.trial.uid
        # The chronos of ranks are compared with each other, so each duration is kept, with its writer.
        spec = timeseries_aggregator if place.rank is not None else CHRONO_AGGREGATOR
        self.chronos = ChronoLog(self._calls, self._uid, spec, faults, self._wait)
        self._health = Health(0, 0, 0, 0, 0)
        self._flushes: list[Callable[[], object]] = []
        self._ends: list[Callable[[], object]] = []
        self.at_end(termination.watch())
        self.at_end(at_exit(self._finish_at_exit))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of trial {self.trial.name!r}, {self.uid}>"

    # --- State

    @property
    def uid(self) -> str:
        """Uid of the trial: `<hash>_<revision>`, or `<hash>~<request>` until the log has decided the revision."""
        return self._uid

    @property
    def url(self) -> str | None:
        """Address of the trial's page, if the setting `dashboard` has the address of a dashboard; otherwise None."""
        place = self._handle.connection.place
        dashboard = place if isinstance(place, str) else place.dashboard
        return f"{dashboard.rstrip('/')}/trials/{self.uid}" if dashboard else None

    @property
    def health(self) -> Health:
        """Counts of the events of this process, and of errors; once the tracker is closed, those at its end."""
        if self.is_open:
            try:
                found = self._protocol.statistics()
            except TrialStreamError:
                pass  # closed meanwhile, or in the child of a fork
            else:
                self._health = Health(found.queued, found.spooled, found.acked, found.dropped, 0)
        return self._health._replace(errors=self.faults.count)

    def handle(self) -> Handle:
        """Make a handle of this trial, for other processes.

        Returns:
            The handle, to be passed to `track.attach` there, pickled or not.
        """
        return self._handle

    # --- Metrics

    def log(
        self,
        values: Mapping[Any, Any] | None = None,
        /,
        *,
        step: Step | None = None,
        aggregator: AggregatorSpec | None = None,
        on: Where = "all",
        **more: Any,
    ) -> None:
        """Log one row of numbers.

        Args:
            values: Numbers by name; nested dicts become names such as `train/loss`. What is no number is left out and
                counted as an error; None is left out.
            step: Step of the row: an int, a float or a text, in any order, or None. An explicit step counts for all
                metrics, also for those whose step `define` has set.
            aggregator: Aggregator of the metrics, such as `StatAggregator.lazy(0)`; by default a time series.
            on: `rank0` to log in the first rank of a distributed run only.
            **more: More numbers by name.
        """
        try:
            if more:
                values = {**flat_row(values, self.faults), **more}
            if on != "all" and not self._is_on(on):
                return
            if (
                self._has_definitions
                or type(values) is not dict
                or not self._calls.add_row(self.trial, step, aggregator, values)
            ):
                self._log_parts(values, step, aggregator)
        except Exception as error:  # noqa: BLE001 (nothing may raise into training)
            self.faults.report("log", error)

    def _log_parts(self, values: object, step: Step | None, aggregator: AggregatorSpec | None) -> None:
        row = flat_row(values, self.faults)
        parts = self._definitions.split(row, step, aggregator) if self._has_definitions else [(row, step, aggregator)]
        for part, at, spec in parts:
            if part and not self._calls.add_row(self.trial, at, spec, part):
                self._log_part(part, at, spec)

    def _log_part(self, row: dict[str, Any], step: Any, aggregator: AggregatorSpec | None) -> None:
        log = self._calls.log_trial_metrics
        try:
            rest = log(self.trial, step, aggregator, row)
        except (InvalidType, InvalidValue):
            row, step = numbers_of(row, self.faults), step_of(step, self.faults)
            rest = log(self.trial, step, aggregator, row) if row else None
        self._wait(rest)

    def define(
        self,
        pattern: str,
        *,
        step: str | None = None,
        best: Literal["max", "min"] | None = None,
        aggregator: AggregatorSpec | None = None,
    ) -> None:
        """Define metrics whose names match a pattern, for the calls of `log` of this process that follow.

        Args:
            pattern: Pattern of names, with `*` and `?`: `val/*`.
            step: Name of the metric whose value in the same row is the step, such as `epoch`.
            best: Whether the largest or the smallest value is the best; the document keeps it with its step.
            aggregator: Aggregator of the metrics; excludes `best`.
        """
        try:
            if aggregator is not None:
                AggregatorSpec.check(aggregator, "define: aggregator")
            if best is not None:
                if aggregator is not None:
                    raise InvalidValue("define: expected best or aggregator, got both")
                aggregator = TimeSeriesAggregator.lazy(best=best)
            self._definitions.add(Definition(str(pattern), step, aggregator))
            self._has_definitions = True
        except Exception as error:  # noqa: BLE001 (as in log)
            self.faults.report("define", error)

    # --- Values

    def log_arguments(self, values: object = None, /, **more: Any) -> None:
        """Merge values into the parameters; the uid does not change.

        Args:
            values: Values by name, or an object with fields such as a dataclass.
            **more: More values by name.
        """
        self._log_values("log_arguments", self._calls.log_trial_arguments, values, more)

    def log_metadata(self, values: object = None, /, *, aggregator: AggregatorSpec | None = None, **more: Any) -> None:
        """Merge values into the metadata.

        Args:
            values: Values by name, or an object with fields such as a dataclass.
            aggregator: Aggregator of the keys, which accumulates their values; by default the latest value counts.
            **more: More values by name.
        """

        def log(trial: Trial, plain: dict[str, Any]) -> Rest | None:
            return self._calls.log_trial_metadata(trial, plain, aggregator=aggregator)

        self._log_values("log_metadata", log, values, more)

    def tag(self, *names: str, **values: Any) -> None:
        """Add tags.

        Args:
            *names: Tags without a value; theirs is True.
            **values: Tags with a value.
        """
        self._log_values("tag", self._calls.add_trial_tags, {plain_name(name): True for name in names}, values)

    def status(self, status: Status | CustomStatus | str, error: str | BaseException | None = None) -> None:
        """Set the status of the trial.

        Args:
            status: A status, or the name of one; another text is a status of one's own, in the phase of running trials.
            error: A text or an exception, appended to the errors.
        """

        def log() -> Rest | None:
            found = status
            if isinstance(found, str):
                found = Status[found] if found in Status.__members__ else CustomStatus(found, Status.Running.value)
            return self._calls.set_trial_status(self.trial, found, error)

        self._safely("status", log)

    def note(self, text: object) -> None:
        """Add a note; the trial keeps the latest 100.

        Args:
            text: The text.
        """
        if (note := self.faults.call("note", str, text)) is not None:
            self.log_metadata({"notes": note}, aggregator=_NOTES)

    def checkpoint(self, path: str | os.PathLike[str], *, step: float | None = None) -> None:
        """Mark a checkpoint, from which the trial can be resumed: `track(…, resume=path)`.

        The metadata `checkpoint` has the latest one. If the path is in a folder of this machine, a file beside it has
        the trial and the step, so that a resume needs no server.

        Args:
            path: Path of the checkpoint, which the user has written; or its address elsewhere.
            step: Step of the checkpoint; by default `step`. A resume supersedes the rows of later steps.
        """
        try:
            at = self.step if step is None else plain_value(step, "step", self.faults.lost)
            if isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at):
                raise InvalidValue(f"checkpoint: step: expected a finite number, got {at!r}")
            text = os.fspath(path)
            self.log_metadata({"checkpoint": {"path": text, "step": at}})
            if self.rank in (None, 0) and Path(text).parent.is_dir():
                write_mark(Mark(self.trial, text, at, self._handle.attempt))
        except Exception as error:  # noqa: BLE001 (as in log)
            self.faults.report("checkpoint", error)

    # --- Chronos

    def chrono(
        self,
        name: str,
        *,
        aggregator: AggregatorSpec | None = None,
        synchronize: Callable[[], object] | None = None,
    ) -> Chrono:
        """Measure a block or a function: `with t.chrono("epoch"):`, `async with`, or as a decorator.

        Args:
            name: Name of the chrono; any but `runtime`.
            aggregator: Aggregator of the elapsed seconds; by default statistics without the first duration, and in a
                distributed run a time series, so that ranks can be compared.
            synchronize: Called before the chrono starts and before it stops, to wait for a device:
                `torch.cuda.synchronize`; may be async with `async with`.

        Returns:
            The chrono.
        """
        chronos = self.chronos
        return Chrono(chronos, chronos.checked(name), aggregator, synchronize)

    def timed(
        self,
        batches: Iterable[T] | AsyncIterable[T],
        name: str,
        *,
        steps: bool = True,
        rows_of: Callable[[T], int] | None = None,
    ) -> Timed[T]:
        """Iterate over batches and measure the loop: the chronos `<name>/load` and `<name>`, and rows per second.

        Args:
            batches: The batches, such as a data loader; asynchronous ones for `async for`.
            name: Name of the chrono.
            steps: Whether `step` is increased before each body; pass False for the outer one of two nested loops.
            rows_of: Returns the number of rows of a batch; by default the first dimension of its first array, or 1.

        Returns:
            What to iterate over.
        """
        return Timed(self, self.chronos, batches, self.chronos.checked(name), steps=steps, rows_of=rows_of)

    # --- The end

    def end(self, error: BaseException | None) -> bool:
        """Log the end of the trial, and close all but the protocol.

        Args:
            error: The exception that ended it, or None.

        Returns:
            Whether the tracker was open.
        """
        if not self.is_open:
            return False
        if (signal := termination.received()) is not None:
            error = KeyboardInterrupt(signal)  # an interruption, with the name of the signal
        self.flush()
        kind, tb = (type(error), error.__traceback__) if error is not None else (None, None)
        self._safely("finish", lambda: self._calls.log_trial_finish(self.trial, kind, error, tb))
        self._health = self.health
        self.is_open = False
        while self._ends:
            self.faults.call("finish", self._ends.pop())
        return True

    def _finish_at_exit(self) -> None:
        """End a trial that was never finished, when the process ends."""
        if self.end(getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)):
            self.faults.call("finish", self._protocol.lifecycle.close_blocking)

    def flush(self) -> None:
        """Log what the parts of the tracker have gathered."""
        for flush in self._flushes:
            self.faults.call("commit", flush)

    # --- For the parts of the tracker

    def close_in_child(self) -> None:
        """Close this tracker in the child of a fork: the trial is that of the parent, and what is open is not ended.

        A part may have been in use by a thread of the parent, with a lock that nothing releases in the child.
        """
        self.is_open = False
        self._flushes.clear()
        self._ends.clear()
        self.faults.renew_lock()

    def at_commit(self, flush: Callable[[], object]) -> None:
        """Register a function that is called before a commit and before the end of the trial is logged.

        Args:
            flush: Logs what a part of the tracker has gathered.
        """
        self._flushes.append(flush)

    def at_end(self, end: Callable[[], object]) -> None:
        """Register a function that is called after the end of the trial was logged, the latest one first.

        Args:
            end: Ends a part of the tracker.
        """
        self._ends.append(end)

    def _safely(self, where: str, log: Callable[[], Rest | None]) -> None:
        self.faults.call(where, lambda: self._wait(log()))

    def _log_values(
        self, where: str, log: Callable[[Trial, dict[str, Any]], Rest | None], values: object, more: dict[str, Any]
    ) -> None:
        def log_plain() -> Rest | None:
            plain = plain_values(values, where, self.faults.lost)
            plain |= plain_values(more, where, self.faults.lost)
            return log(self.trial, plain) if plain else None

        self._safely(where, log_plain)

    def _wait(self, rest: Rest | None) -> None:
        """Wait for the rest of a log call, if there is one: memory and spool are full."""
        if rest is not None:
            self._protocol.lifecycle.run(rest)

    def _is_on(self, on: Where) -> bool:
        if on == "rank0":
            return self.rank in (None, 0)
        raise InvalidValue(f"on: expected 'all' or 'rank0', got {on!r}")
