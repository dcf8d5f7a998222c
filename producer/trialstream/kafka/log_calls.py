"""The calls that log, for both protocols: each checks its arguments and appends to the inbox, in the caller's thread.

A call has nothing to wait for, with four exceptions: the trial is not known to exist, the inbox is full, a callback has
to run, or `sync_writes` is set. Then the function returns the rest of the call, a coroutine function: the asynchronous
protocol awaits it, and `trialstream.sync` runs it in the I/O thread. Otherwise it returns None.
"""

# ruff: noqa: D102 (the methods are described in trialstream/protocol.py)

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from trialstream_schemas.errors import InvalidType, InvalidValue, SpoolFull
from trialstream_schemas.model.aggregators import AggregatorSpec, StatAggregator, value_aggregator
from trialstream_schemas.model.attempts import Attempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.wire.events import TrialFinished

from trialstream.kafka import commands
from trialstream.kafka.chronos import HeldChrono, OpenChrono, check_chrono, task_or_thread
from trialstream.kafka.row_log import RowLog
from trialstream.kafka.rows import RowChecks
from trialstream.kafka.session import Rest, Session
from trialstream.pipeline.frames import ChronosFrame
from trialstream.protocol import Callback, Step
from trialstream.reading.checks import checked
from trialstream.runtime.caller import in_caller

__all__ = ["CHRONO_AGGREGATOR", "LogCalls"]

T = TypeVar("T")

# The default aggregator of a chrono: statistics without the first duration, in which code compiles and warms up.
CHRONO_AGGREGATOR = StatAggregator.lazy(1)


class LogCalls:
    """The calls that log. Safe to use from any thread.

    Each method has the name, the parameters and the errors of the method of `Protocol`, and returns the rest of the
    call, or None.

    Args:
        session: The connection.
        checks: Checks rows, and makes the events of metadata.

    Attributes:
        owner: Returns who starts or finishes a chrono, in the thread of the call: by default the task or thread.
        held: The open chronos that their owners hold, by `id`. They are added here at their start, and removed by
            `finish_held`; that costs a third of a named one.
    """

    def __init__(self, session: Session, checks: RowChecks) -> None:
        self._session = session
        self._checks = checks
        self._sync_writes = session.config.sync_writes
        self.held = session.chronos.held
        self.owner: Callable[[], object] = task_or_thread
        # From the first row on; unless `sync_writes` is set, since it cannot wait.
        self._rows: RowLog | None = None
        self.add_row: Callable[[Trial, Step | None, AggregatorSpec | None, dict[str, Any]], bool] = _no_row

    def log_trial_start(self, trial: Trial, *, attempt: Attempt | None = None) -> Rest | None:
        return self._log(trial, lambda uid: self._start(uid, attempt))

    def log_trial_finish(
        self,
        trial: Trial,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> Rest | None:
        def finish(uid: str) -> Rest | None:
            event = commands.log_trial_finish(self._session.writer, uid, exc_type, exc_val, exc_tb)
            self._stop_runtime(event)
            return self._session.put(event)

        return self._log(trial, finish)

    def log_trial_chrono_start(
        self,
        trial: Trial,
        name: str,
        aggregator: AggregatorSpec | None = CHRONO_AGGREGATOR,
        start_callback: Callback | None = None,
        end_callback: Callback | None = None,
    ) -> Rest | None:
        owner = self.owner()

        def start(uid: str) -> Rest | None:
            checked_name = check_chrono(name)
            spec = CHRONO_AGGREGATOR if aggregator is None else AggregatorSpec.check(aggregator, "aggregator")
            for path, callback in (("start_callback", start_callback), ("end_callback", end_callback)):
                if callback is not None and not callable(callback):
                    raise InvalidType(f"{path}: expected a callable, got {type(callback).__name__}")
            if start_callback is None:
                self._session.chronos.start(OpenChrono(uid, checked_name, spec, end_callback, owner))
                return None

            async def call_and_start() -> None:
                await in_caller(start_callback)
                self._session.chronos.start(OpenChrono(uid, checked_name, spec, end_callback, owner))

            return call_and_start

        return self._log(trial, start)

    def log_trial_chrono_finish(
        self,
        trial: Trial,
        name: str,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,  # noqa: ARG002 (part of the Protocol)
    ) -> Rest | None:
        owner = self.owner()

        def finish(uid: str) -> Rest | None:
            chrono = self._session.chronos.finish(uid, check_chrono(name), owner)
            failed = (exc_type is not None or exc_val is not None) and not commands.is_successful_exit(
                exc_type, exc_val
            )
            end_callback, chrono.end_callback = chrono.end_callback, None
            if end_callback is None:
                return self._finished(chrono, failed=failed)

            async def call_and_finish() -> None:
                raised = True
                try:
                    await in_caller(end_callback)
                    raised = False
                finally:
                    if rest := self._finished(chrono, failed=failed or raised):
                        await rest()

            return call_and_finish

        return self._log(trial, finish)

    def chronos_frame(self, uid: str) -> ChronosFrame:
        """Return the frame that gathers the chronos of a trial, for `finish_held`."""
        return self._session.outbox.chronos(uid)

    def finish_held(self, frame: ChronosFrame, chrono: HeldChrono, elapsed: float, *, failed: bool) -> Rest | None:
        """Log a chrono of a trial that is known to exist, which its owner has stopped, held here or not.

        Args:
            frame: That of `chronos_frame` for the trial.
            chrono: The chrono.
            elapsed: Its duration, seconds.
            failed: Whether it ended with an exception.

        Returns:
            What the call has to wait for, as of the other calls.
        """
        self.held.pop(id(chrono), None)
        item = frame, (chrono, time.time_ns(), elapsed, failed)
        inbox = self._session.outbox.inbox
        if self._sync_writes or len(inbox.items) >= inbox.limit:
            return self._session.add(frame.uid, functools.partial(inbox.add, item, frame.row_bytes))
        inbox.items.append(item)
        if inbox.idle:
            inbox.look(item)
        return None

    def log_trial_arguments(self, /, trial: Trial, *values: Mapping[str, Any], **kwargs: Any) -> Rest | None:
        return self._log_event(trial, commands.log_trial_arguments, *values, **kwargs)

    def log_trial_metadata(
        self, /, trial: Trial, *args: Any, aggregator: AggregatorSpec | None = value_aggregator, **kwargs: Any
    ) -> Rest | None:
        return self._log_event(trial, self._checks.log_trial_metadata, *args, aggregator=aggregator, **kwargs)

    def log_trial_metrics(
        self, trial: Trial, step: Step | None, aggregator: AggregatorSpec | None, values: dict[str, Any]
    ) -> Rest | None:
        """Log a row that `add_row` has not taken."""
        return self._log(trial, lambda uid: self._row(uid, trial, step, aggregator, values))

    def set_trial_status(
        self,
        trial: Trial,
        status: Status | CustomStatus,
        error: str | BaseException | type[BaseException] | None = None,
    ) -> Rest | None:
        return self._log_event(trial, commands.set_trial_status, status, error)

    def add_trial_tags(self, /, trial: Trial, *values: Mapping[str, Any], **kwargs: Any) -> Rest | None:
        return self._log_event(trial, commands.add_trial_tags, *values, **kwargs)

    def add_project_trial(self, project: Project, trial: Trial) -> Rest | None:
        checked(project, Project, "project")

        def attach(uid: str) -> Rest | None:
            session = self._session
            put = functools.partial(session.put, commands.attach_trial(session.writer, uid, project_id=project.uid))
            if session.subjects.has("projects", project.uid):
                return put()
            return _after(functools.partial(self.require_project, project.uid), put)

        return self._log(trial, attach)

    def add_group_trial(self, group: TrialGroup, trial: Trial) -> Rest | None:
        session = self._session

        def attach(group_id: str) -> Rest | None:
            return self._log(
                trial,
                lambda uid: session.put(commands.attach_trial(session.writer, uid, group_id=group_id)),
            )

        return self._log_group(group, attach)

    def set_group_metadata(self, /, group: TrialGroup, *values: Mapping[str, Any], **kwargs: Any) -> Rest | None:
        session = self._session
        return self._log_group(
            group,
            lambda uid: session.put(commands.set_group_metadata(session.writer, uid, *values, **kwargs)),
        )

    async def require_project(self, uid: str) -> None:
        """Check that a project exists; errors as for `Session.require`."""
        await self._session.require("projects", uid, f"project {uid!r} was never created: call new_project first")

    async def require_group(self, uid: str, name: str, *, was_created: bool = True) -> None:
        """Check that a group exists; errors as for `Session.require`.

        Args:
            uid: Uid of the group.
            name: Its name, for the message.
            was_created: Whether the user's object comes from a creation or a fetch.
        """
        message = f"group {name!r} was never created: call new_trial_group first"
        await self._session.require("groups", uid, message, was_created=was_created)

    def _log_group(self, group: TrialGroup, log: Callable[[str], Rest | None]) -> Rest | None:
        """Call a function with the uid of a group; first look the group up, if it is not known to exist."""
        session = self._session
        session.lifecycle.check_open()
        uid = checked(group, TrialGroup, "group").uid
        if session.subjects.has("groups", uid):
            return log(uid)
        require = functools.partial(self.require_group, uid, group.name, was_created=group.created is not None)
        return _after(require, functools.partial(log, uid))

    def _log(self, trial: Trial, log: Callable[[str], Rest | None]) -> Rest | None:
        """Call a function with the uid of a trial; first look the trial up, if it is not known to exist."""
        session = self._session
        session.lifecycle.check_open()
        try:
            uid = trial.uid if isinstance(trial, Trial) and type(trial.revision) is int else ""
        except ValueError:  # Python writes no integer of thousands of digits; the check names the field
            uid = ""
        if session.subjects.has("trials", uid):  # then the fields of which it is made need no check
            return log(uid)
        uid = checked(trial, Trial, "trial").uid
        return _after(functools.partial(session.require_trial, trial), functools.partial(log, uid))

    def _log_event(self, trial: Trial, make: commands.MakeUpdate, /, *args: Any, **kwargs: Any) -> Rest | None:
        session = self._session
        return self._log(trial, lambda uid: session.put(make(session.writer, uid, *args, **kwargs)))

    def _start(self, uid: str, attempt: Attempt | None) -> Rest | None:
        session = self._session
        event = commands.log_trial_start(session.writer, uid, attempt=attempt)
        held = session.attempts.get(uid)
        if attempt is not None and held not in (None, attempt.key):
            raise InvalidValue(
                f"attempt: expected {held!r}, in which this Protocol takes part, got {attempt.key!r}: open another "
                "Protocol for another attempt"
            )
        before = session.started.get(uid)
        session.started[uid] = time.perf_counter()
        if attempt is not None:
            session.attempts[uid] = attempt.key

        def undo() -> None:
            _restore(session.started, uid, before)
            _restore(session.attempts, uid, held)

        try:
            rest = session.put(event)
        except SpoolFull:  # after any other error, the event is logged all the same
            undo()
            raise
        if rest is None:
            return None

        async def wait() -> None:
            try:
                await rest()
            except SpoolFull:
                undo()
                raise

        return wait

    def _stop_runtime(self, event: TrialFinished) -> None:
        started = self._session.started.pop(event.trial, None)
        event.elapsed = None if started is None else time.perf_counter() - started

    def _finished(self, chrono: OpenChrono, *, failed: bool) -> Rest | None:
        elapsed = time.perf_counter() - chrono.started
        finished = chrono, time.time_ns(), elapsed, failed
        return self._session.add(chrono.trial, functools.partial(self._session.outbox.add_chrono, finished))

    def _row(
        self, uid: str, trial: Trial, step: Step | None, aggregator: AggregatorSpec | None, values: dict[str, Any]
    ) -> Rest | None:
        session = self._session
        if self._rows is None:
            self._rows = RowLog(session.outbox, self._checks)
            if not session.config.sync_writes:
                self.add_row = self._rows.add
        return session.add(uid, self._rows.prepare(trial, uid, step, aggregator, values))


def _after(look_up: Rest, log: Callable[[], Rest | None]) -> Rest:
    """Return the rest of a call that first looks a subject up."""

    async def look_up_and_log() -> None:
        await look_up()
        # The values are read in the caller's thread: torch chooses the stream of a device by thread.
        if rest := await in_caller(log):
            await rest()

    return look_up_and_log


def _restore(held: dict[str, T], key: str, before: T | None) -> None:
    """Give a key the value that it had before; None if it had none."""
    if before is None:
        held.pop(key, None)
    else:
        held[key] = before


def _no_row(*_: object) -> bool:
    """Return False, as for a row that needs all checks."""
    return False
