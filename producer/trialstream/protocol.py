"""The Protocol: the interface between training code and trialstream.

`Protocol` is the abstract interface. `KafkaProtocol` implements it over Kafka and MongoDB; `ReadOnlyProtocol` reads
with MongoDB alone. No method changes the objects that are passed to it: fetch an object again to see its new state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.model.aggregators import AggregatorSpec, StatAggregator, value_aggregator
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.statistics import Statistics

__all__ = ["Callback", "CommitLevel", "MetricHistory", "Protocol", "Query", "Sort", "Step"]

Callback: TypeAlias = Callable[[], Awaitable[object] | object]
CommitLevel: TypeAlias = Literal["spooled", "acked", "folded"]
Query: TypeAlias = Mapping[str, Any]
Sort: TypeAlias = str | Sequence[str | tuple[str, int]] | None
Step: TypeAlias = int | float | str


@dataclass(frozen=True)
class MetricHistory:
    """History of one metric, in the order of the log: five arrays of the same length, one element for each row.

    Attributes:
        steps: int64 or float64; object if some steps are text or None.
        times: When each row was logged, datetime64[us] in UTC.
        writers: Id of the writer of each row, object.
        values: float64; NaN and ±inf as they were logged.
        rows: Number of each row among all rows of the trial, in the order of the log, from 0; int64, ascending. To read
            only what is new, pass the last number plus one as `since_row`.
    """

    steps: NDArray[Any]
    times: NDArray[np.datetime64]
    writers: NDArray[np.object_]
    values: NDArray[np.float64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)


def refuse_copy(protocol: object) -> NoReturn:
    """Refuse to pickle or to copy a protocol: its connections belong to one process.

    Raises:
        TypeError: On every call, as for other objects that pickle refuses.
    """
    raise TypeError(
        f"{type(protocol).__name__}: expected an object that can be pickled or copied, got a connection: "
        "open another one in the child process, with trialstream.connect()"
    )


class Protocol(ABC):
    """Logs trials and reads them back.

    Every method that logs checks its arguments at the call. If it raises one of these errors, nothing was logged:

    - `ItemNotFound`: the trial was never created;
    - `ProtocolClosed`: the protocol was not entered, or was left;
    - `InvalidType` (a `TypeError`) and `InvalidValue` (a `ValueError`): an argument cannot be logged; the message names
      it;
    - `SpoolFull`: memory and spool are full, and the setting `when_full` is `raise`.

    Every method that reads first waits until all events that this protocol has logged are folded into the documents. It
    raises `CommitTimeout` or `ProjectionBehind` if the wait takes too long, `MongoUnavailable` if MongoDB does not
    answer, and `Offline` if the protocol works without servers.
    """

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close(failed=exc_type is not None)

    def __reduce__(self) -> NoReturn:
        refuse_copy(self)

    # --- Opening and closing

    @abstractmethod
    async def open(self) -> None:
        """Open the protocol, as `async with` does; `close` must follow.

        Raises:
            ProtocolClosed: The protocol was opened before, or no asyncio event loop is running (as under trio).
            KafkaUnavailable: No broker answers, and there is no spool to work with instead.
            LogMismatch: The topics do not match the identity of the log, which was recorded at its creation.
        """

    @abstractmethod
    async def close(self, *, failed: bool = False) -> None:
        """Send the remaining events within a deadline, and close the protocol, as the end of `async with` does.

        The call does nothing if the protocol is not open.

        Args:
            failed: Whether an exception is being raised already; then a warning that is configured as an error is
                logged and does not replace it.
        """

    # --- State

    @property
    @abstractmethod
    def writer(self) -> str:
        """Id of this protocol and process, as in `Trial.writers`."""

    @abstractmethod
    def statistics(self) -> Statistics:
        """Return the current counts of events.

        Returns:
            Events queued, acknowledged, dropped and on disk, and bytes in memory.

        Raises:
            ProtocolClosed: The protocol is not open.
        """

    # --- Trials: start and end

    @abstractmethod
    async def log_trial_start(self, trial: Trial) -> None:
        """Log that a trial starts to run: its status becomes `Running`, and heartbeats begin.

        A second start is a resume; `starts` counts it.

        Args:
            trial: The trial.
        """

    @abstractmethod
    async def log_trial_finish(
        self,
        trial: Trial,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Log that a trial has ended: `Completed`, `Interrupted` (KeyboardInterrupt, cancellation) or `Exception`.

        A `SystemExit` whose code is 0 or None is a successful end: `Completed`.

        The seconds since the start of the trial are added to `chronos["runtime"]`. They are measured by the monotonic
        clock if this process started the trial, and are otherwise the difference of the two times in the log.

        Args:
            trial: The trial.
            exc_type: Class of the exception that ended it, or None.
            exc_val: The exception; its message is appended to `errors`.
            exc_tb: Its traceback, which is stored with the message.
        """

    # --- Chronos

    @abstractmethod
    async def log_trial_chrono_start(
        self,
        trial: Trial,
        name: str,
        aggregator: AggregatorSpec | None = StatAggregator.lazy(1),  # noqa: B008 (a constant)
        start_callback: Callback | None = None,
        end_callback: Callback | None = None,
    ) -> None:
        """Start a chrono; `log_trial_chrono_finish` with the same name stops it.

        Chronos of one name may be open at the same time in several tasks, threads and trials.

        Args:
            trial: The trial.
            name: Name of the chrono; any but `runtime`, the name of the trial's own.
            aggregator: Aggregator of its elapsed seconds; by default, or if None, statistics without the first
                duration.
            start_callback: Called before the chrono starts; sync or async.
            end_callback: Called before the chrono stops, for example to synchronise a device; sync or async.
        """

    @abstractmethod
    async def log_trial_chrono_finish(
        self,
        trial: Trial,
        name: str,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Call the `end_callback`, stop the chrono and log its elapsed seconds, even if the callback raises.

        The call stops the latest chrono of that name that this task (or thread) started, or the only open one.

        Args:
            trial: The trial.
            name: Name of the chrono.
            exc_type: Class of an exception that ended it, or None; an exception counts in `failed_chronos`, unless it
                is a `SystemExit` whose code is 0 or None.
            exc_val: The exception, or None.
            exc_tb: Its traceback, or None; it is not logged.

        Raises:
            ChronoError: No such chrono is open, or several are and this task started none of them.
        """

    # --- Trials: values and states

    @abstractmethod
    async def log_trial_arguments(self, /, trial: Trial, **kwargs: Any) -> None:
        """Merge values into the parameters; the uid does not change.

        Args:
            trial: The trial.
            **kwargs: Values by name.
        """

    @abstractmethod
    async def log_trial_metadata(
        self, /, trial: Trial, aggregator: AggregatorSpec | None = value_aggregator, **kwargs: Any
    ) -> None:
        """Merge values into the metadata.

        Args:
            trial: The trial.
            aggregator: Aggregator of the keys; any but a `ValueAggregator`, the default, accumulates their values. None
                means the default.
            **kwargs: Values by name.
        """

    @abstractmethod
    async def log_trial_metrics(
        self, /, trial: Trial, step: Step | None = None, aggregator: AggregatorSpec | None = None, **kwargs: Any
    ) -> None:
        """Log one row of numbers.

        Args:
            trial: The trial.
            step: Step of the row: an int, a float or a text, in any order, or None.
            aggregator: Aggregator of the metrics; `timeseries_aggregator` if not given. If rows of one name have
                different aggregators, the first one in the log is used. Rows whose aggregator is a time series are kept
                in the history.
            **kwargs: Numbers by name: int, float, bool, numpy scalars, or objects with an `item()` that returns one.
                They become doubles. An integer that loses digits, as one beyond 2**53 may, causes a `RuntimeWarning`
                once for each name.
        """

    def log_trial_metrics_nowait(
        self,
        trial: Trial,  # noqa: ARG002 (for implementations that can)
        step: Step | None,  # noqa: ARG002
        aggregator: AggregatorSpec | None,  # noqa: ARG002
        values: dict[str, Any],  # noqa: ARG002
    ) -> bool:
        """Log a plain row from any thread, without waiting for anything, not even for a lock.

        A row is plain if its step is a number or None, its values are floats, and it fits an open frame of its trial.

        Args:
            trial: The trial.
            step: As for `log_trial_metrics`.
            aggregator: As for `log_trial_metrics`.
            values: Numbers by name.

        Returns:
            Whether the row was logged. If not, call `log_trial_metrics`, which logs the row or raises an error.
        """
        return False

    @abstractmethod
    async def set_trial_status(
        self,
        trial: Trial,
        status: Status | CustomStatus,
        error: str | BaseException | type[BaseException] | None = None,
    ) -> None:
        """Set the status of a trial.

        Args:
            trial: The trial.
            status: The status.
            error: A text, an exception or a class of exceptions, appended to `errors`; or None.
        """

    @abstractmethod
    async def add_trial_tags(self, /, trial: Trial, **kwargs: Any) -> None:
        """Merge values into the tags.

        Args:
            trial: The trial.
            **kwargs: Values by name.
        """

    # --- Projects and groups

    @abstractmethod
    async def get_project(self, project: Project) -> Project | None:
        """Read a project by its name.

        Args:
            project: A project with that name.

        Returns:
            The project as it is stored; None if there is none.
        """

    @abstractmethod
    async def new_project(self, project: Project) -> Project:
        """Create a project.

        Args:
            project: The project.

        Returns:
            The created project, or the existing one of that name.

        Raises:
            CommitTimeout: Kafka has not acknowledged the event in time.
            ProjectionBehind: The consumer has not folded the event in time.
        """

    @abstractmethod
    async def get_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        """Read a group by its name and project.

        Args:
            group: A group with that name and project.

        Returns:
            The group as it is stored; None if there is none.
        """

    @abstractmethod
    async def new_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        """Create a group.

        Args:
            group: The group.

        Returns:
            The created group; None if it exists already.

        Raises:
            ItemNotFound: Its project does not exist.
            CommitTimeout: Kafka has not acknowledged the event in time.
            ProjectionBehind: The consumer has not folded the event in time.
        """

    @abstractmethod
    async def add_project_trial(self, project: Project, trial: Trial) -> None:
        """Put a trial into a project; its uid does not change.

        Args:
            project: The project.
            trial: The trial.

        Raises:
            ItemNotFound: The project or the trial does not exist.
        """

    @abstractmethod
    async def add_group_trial(self, group: TrialGroup, trial: Trial) -> None:
        """Put a trial into a group; its uid does not change.

        Args:
            group: The group.
            trial: The trial.

        Raises:
            ItemNotFound: The group or the trial does not exist.
        """

    @abstractmethod
    async def set_group_metadata(self, /, group: TrialGroup, **kwargs: Any) -> None:
        """Merge values into the metadata of a group.

        Args:
            group: The group.
            **kwargs: Values by name.

        Raises:
            ItemNotFound: The group does not exist.
        """

    # --- Creating and claiming trials

    @abstractmethod
    async def get_trial(self, trial: Trial) -> list[Trial]:
        """Read all revisions of a trial's definition.

        Args:
            trial: A trial with that definition.

        Returns:
            The revisions, ascending; empty if there are none.
        """

    @abstractmethod
    async def new_trial(self, trial: Trial, auto_increment: bool = False) -> Trial | None:
        """Create a trial.

        Args:
            trial: The definition of the trial.
            auto_increment: Whether to create the next revision if the trial exists.

        Returns:
            The created trial; None if it exists and `auto_increment` is false.

        Raises:
            ItemNotFound: Its project or group does not exist.
            CommitTimeout: Kafka has not acknowledged the event in time; not with `auto_increment`, see docs/spool.md.
            ProjectionBehind: The consumer has not folded the event in time; not with `auto_increment` either.
        """

    @abstractmethod
    async def fetch_and_update_trial(self, query: Query, attr: str, *args: Any, **kwargs: Any) -> Trial:
        """Claim exactly one trial that matches, apply an update to it, and return it.

        If several workers claim the same trial at the same time, exactly one gets it; the others claim other trials.

        Args:
            query: As for `fetch_trials`.
            attr: Name of an update method whose first argument is the trial, such as `set_trial_status`.
            *args: Its arguments after the trial.
            **kwargs: Its keyword arguments.

        Returns:
            The trial after the update.

        Raises:
            ItemNotFound: No trial matches.
            QueryError: The query is not supported, or `attr` does not name an update that can claim.
        """

    @abstractmethod
    async def fetch_and_update_group(self, query: Query, attr: str, *args: Any, **kwargs: Any) -> TrialGroup:
        """Claim exactly one group that matches, apply an update to it, and return it.

        Args:
            query: As for `fetch_groups`.
            attr: Name of the update method; only `set_group_metadata` can claim a group.
            *args: Its arguments after the group.
            **kwargs: Its keyword arguments.

        Returns:
            The group after the update.

        Raises:
            ItemNotFound: No group matches.
            QueryError: The query is not supported, or `attr` does not name an update that can claim.
        """

    # --- Reading

    @abstractmethod
    async def fetch_trials(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[Trial]:
        """Read the trials that match a MongoDB query over their fields.

        Args:
            query: Operators `$eq $ne $gt $gte $lt $lte $in $nin $and $or $nor $not $exists $regex $all $elemMatch
                $size` and dotted paths. `status` takes a `Status`, its name, or a list of them; times take a
                `datetime`, a `date` or ISO 8601 text.
                None or no query matches all trials.
            sort: A path, `-path` for descending, or a list of them; by creation if not given. Missing values and NaN
                come last in either direction.
            limit: Maximum number of trials; None for all.
            fields: Paths of the fields to read, such as `status` or `metrics.loss`; None for all. The other fields of
                the returned objects have their defaults, except the uid, the name and `created`. Do not create
                trials from such partial objects: their definition is not complete.

        Returns:
            The trials.

        Raises:
            QueryError: The query, the sort keys, the limit or a field are not supported; the message names the part.
            MongoUnavailable: MongoDB does not answer, or the query took longer than the timeout of the protocol.
        """

    @abstractmethod
    async def fetch_groups(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[TrialGroup]:
        """Read the groups that match, with the uids of their trials.

        Args:
            query: As for `fetch_trials`, over the fields of groups.
            sort: As for `fetch_trials`.
            limit: Maximum number of groups; None for all.
            fields: As for `fetch_trials`; `trials` are the uids of the trials.

        Returns:
            The groups.

        Raises:
            QueryError: As for `fetch_trials`.
            MongoUnavailable: As for `fetch_trials`.
        """

    @abstractmethod
    async def fetch_projects(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[Project]:
        """Read the projects that match, with the uids of their groups and trials.

        Args:
            query: As for `fetch_trials`, over the fields of projects.
            sort: As for `fetch_trials`.
            limit: Maximum number of projects; None for all.
            fields: As for `fetch_trials`; `groups` and `trials` are the uids of these.

        Returns:
            The projects.

        Raises:
            QueryError: As for `fetch_trials`.
            MongoUnavailable: As for `fetch_trials`.
        """

    @abstractmethod
    async def fetch_metrics(
        self,
        trial: Trial,
        *names: str,
        since_step: Step | None = None,
        since_row: int | None = None,
        max_points: int | None = None,
        section: Literal["metrics", "chronos", "metadata"] = "metrics",
    ) -> dict[str, MetricHistory]:
        """Read the history of metrics that are aggregated to a time series.

        Args:
            trial: The trial.
            *names: Names of the metrics; all if none is given.
            since_step: Only rows whose step is at least this one and of its type (number or text).
            since_row: Only rows with this number or a later one, see `MetricHistory.rows`. MongoDB returns only the
                parts of the history that can have such rows.
            max_points: Maximum number of points of each history, 3 or more; longer ones are downsampled such that a
                plot looks the same (MinMaxLTTB).
            section: Section of the trial: `metrics`, `chronos` or `metadata`.

        Returns:
            The histories by name.

        Raises:
            ItemNotFound: There is no such trial, or no history of that name.
        """

    # --- Waiting

    @abstractmethod
    async def commit(self, level: CommitLevel = "acked", timeout: float | None = None, **kwargs: Any) -> None:
        """Wait until all events that were logged so far are safe.

        Args:
            level: `spooled`: each event is in Kafka, or on disk where it survives a crash of the machine. `acked`:
                Kafka has acknowledged all events. `folded`: `fetch_*` shows them. Offline, each level means `spooled`.
                Dropped events are not waited for.
            timeout: Seconds; None for the timeout of the protocol.
            **kwargs: Ignored, so that code with options of other backends runs.

        Raises:
            CommitTimeout: Kafka, or the disk, has not taken all events in time; they stay queued.
            SpoolError: The level is `spooled` and there is no spool, or the disk did not confirm the write.
            ProjectionBehind: The consumer has not folded them in time; the message says how far behind it is.
        """
