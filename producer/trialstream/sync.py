"""The protocol for code that is not async.

    import trialstream as ts
    import trialstream.sync
    with trialstream.sync.connect() as protocol:
        trial = protocol.new_trial(ts.Trial(name="mlp"), auto_increment=True)
        protocol.log_trial_metrics(trial, step=1, loss=0.5)

Each method has the name, the parameters and the errors of the method of `Protocol`, and blocks where the async method
waits. A protocol may be shared between threads. Callbacks of chronos run in the thread of the call; an async callback
gets an event loop of its own there.

Calls that log run in their own thread and wait for nothing, unless the trial is not known yet, there is no space, or a
callback has to run; these and all other calls wait for the I/O thread. No call takes a lock, so a signal handler that
interrupts it may log, too.
"""

# ruff: noqa: D102 (the methods are described in trialstream/protocol.py)

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from trialstream_schemas.model.aggregators import AggregatorSpec, StatAggregator, value_aggregator
from trialstream_schemas.model.attempts import Attempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.arguments import resolve
from trialstream.backends import open_url
from trialstream.blocking_reader import BlockingReader
from trialstream.config import Config
from trialstream.connect import protocol_of
from trialstream.protocol import Callback, CommitLevel, Query, Step, refuse_copy
from trialstream.statistics import Statistics
from trialstream.streaming.blocking import watch
from trialstream.streaming.blocking_stream import stream

if TYPE_CHECKING:
    from trialstream.kafka.protocol import LoggingProtocol
    from trialstream.kafka.session import Rest
    from trialstream.reading.read_only import ReadOnlyProtocol

__all__ = ["SyncProtocol", "connect", "stream", "watch"]


class SyncProtocol(BlockingReader):
    """Blocking methods over an asynchronous protocol; a context manager.

    Args:
        protocol: The asynchronous protocol, not yet opened.
    """

    def __init__(self, protocol: LoggingProtocol | ReadOnlyProtocol) -> None:
        super().__init__(protocol)
        protocol.log.owner = threading.get_ident  # also for a thread that runs an event loop

    def __reduce__(self) -> NoReturn:
        refuse_copy(self)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close(failed=exc_type is not None)

    def open(self) -> None:
        self._protocol.lifecycle.open_blocking()

    def close(self, *, failed: bool = False) -> None:
        self._protocol.lifecycle.close_blocking(failed=failed)

    @property
    def writer(self) -> str:
        return self._protocol.writer

    def statistics(self) -> Statistics:
        async def counts() -> Statistics:
            return self._protocol.statistics()

        return self._run(counts)

    def _finish(self, rest: Rest | None) -> None:
        """Wait for the rest of a log call, if there is one."""
        if rest is not None:
            self._run(rest)

    def log_trial_start(self, trial: Trial, *, attempt: Attempt | None = None) -> None:
        self._finish(self._protocol.log.log_trial_start(trial, attempt=attempt))

    def log_trial_finish(
        self,
        trial: Trial,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        self._finish(self._protocol.log.log_trial_finish(trial, exc_type, exc_val, exc_tb))

    def log_trial_chrono_start(
        self,
        trial: Trial,
        name: str,
        aggregator: AggregatorSpec | None = StatAggregator.lazy(1),  # noqa: B008 (a constant)
        start_callback: Callback | None = None,
        end_callback: Callback | None = None,
    ) -> None:
        self._finish(self._protocol.log.log_trial_chrono_start(trial, name, aggregator, start_callback, end_callback))

    def log_trial_chrono_finish(
        self,
        trial: Trial,
        name: str,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        self._finish(self._protocol.log.log_trial_chrono_finish(trial, name, exc_type, exc_val, exc_tb))

    def log_trial_arguments(self, /, trial: Trial, *values: Mapping[str, Any], **kwargs: Any) -> None:
        self._finish(self._protocol.log.log_trial_arguments(trial, *values, **kwargs))

    def log_trial_metadata(
        self, /, trial: Trial, *args: Any, aggregator: AggregatorSpec | None = value_aggregator, **kwargs: Any
    ) -> None:
        self._finish(self._protocol.log.log_trial_metadata(trial, *args, aggregator=aggregator, **kwargs))

    def log_trial_metrics(
        self,
        /,
        trial: Trial,
        *args: Any,
        step: Step | None = None,
        aggregator: AggregatorSpec | None = None,
        **kwargs: Any,
    ) -> None:
        if args:
            kwargs, step, aggregator = resolve("metrics", args, kwargs, step=step, aggregator=aggregator)
        log = self._protocol.log
        if not log.add_row(trial, step, aggregator, kwargs):
            self._finish(log.log_trial_metrics(trial, step, aggregator, kwargs))

    def log_trial_metrics_nowait(
        self, trial: Trial, step: Step | None, aggregator: AggregatorSpec | None, values: dict[str, Any]
    ) -> bool:
        return self._protocol.log_trial_metrics_nowait(trial, step, aggregator, values)

    def set_trial_status(
        self,
        trial: Trial,
        status: Status | CustomStatus,
        error: str | BaseException | type[BaseException] | None = None,
    ) -> None:
        self._finish(self._protocol.log.set_trial_status(trial, status, error))

    def add_trial_tags(self, /, trial: Trial, *values: Mapping[str, Any], **kwargs: Any) -> None:
        self._finish(self._protocol.log.add_trial_tags(trial, *values, **kwargs))

    def new_project(self, project: Project, *, wait: bool = True) -> Project:
        return self._run(self._protocol.new_project, project, wait=wait)

    def new_trial_group(self, group: TrialGroup, *, wait: bool = True) -> TrialGroup | None:
        return self._run(self._protocol.new_trial_group, group, wait=wait)

    def add_project_trial(self, project: Project, trial: Trial) -> None:
        self._finish(self._protocol.log.add_project_trial(project, trial))

    def add_group_trial(self, group: TrialGroup, trial: Trial) -> None:
        self._finish(self._protocol.log.add_group_trial(group, trial))

    def set_group_metadata(self, /, group: TrialGroup, *values: Mapping[str, Any], **kwargs: Any) -> None:
        self._finish(self._protocol.log.set_group_metadata(group, *values, **kwargs))

    def new_trial(
        self, trial: Trial, auto_increment: bool = False, *, wait: bool = True, run_id: str | None = None
    ) -> Trial | None:
        return self._run(self._protocol.new_trial, trial, auto_increment, wait=wait, run_id=run_id)

    def fetch_and_update_trial(self, /, query: Query, attr: str | None = None, *args: Any, **kwargs: Any) -> Trial:
        return self._run(self._protocol.fetch_and_update_trial, query, attr, *args, **kwargs)

    def fetch_and_update_group(self, /, query: Query, attr: str | None = None, *args: Any, **kwargs: Any) -> TrialGroup:
        return self._run(self._protocol.fetch_and_update_group, query, attr, *args, **kwargs)

    def commit(self, level: CommitLevel = "acked", timeout: float | None = None, **kwargs: Any) -> None:
        self._run(self._protocol.commit, level, timeout, **kwargs)


def connect(
    url: str | None = None,
    *,
    kafka: str | None = None,
    mongo: str | None = None,
    prefix: str | None = None,
    offline: bool | None = None,
    read_only: bool | None = None,
    timeout: float = 30.0,
    **settings: Any,
) -> SyncProtocol:
    """Make a protocol for code that is not async, to be entered: `with trialstream.sync.connect() as protocol:`.

    Args:
        url: As for `trialstream.connect`.
        kafka: As for `trialstream.connect`.
        mongo: As for `trialstream.connect`.
        prefix: As for `trialstream.connect`.
        offline: As for `trialstream.connect`.
        read_only: As for `trialstream.connect`.
        timeout: As for `trialstream.connect`, seconds.
        **settings: As for `trialstream.connect`.

    Returns:
        The protocol.

    Raises:
        ConfigError: A setting is invalid; the message names it.
    """
    settings |= {"kafka": kafka, "mongo": mongo, "prefix": prefix, "offline": offline, "read_only": read_only}
    if url is not None:
        return SyncProtocol(open_url(url, settings, timeout))
    return SyncProtocol(protocol_of(Config.from_env(**settings), timeout=timeout))
