"""The Protocol: the interface between training code and trialstream.

`Protocol` is the abstract interface. `KafkaProtocol` implements it over Kafka and MongoDB; `ReadOnlyProtocol` reads
with MongoDB alone. No method changes the objects that are passed to it: fetch an object again to see its new state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeAlias, TypedDict, Unpack, overload

from trialstream_schemas.model.aggregators import AggregatorSpec, StatAggregator, value_aggregator
from trialstream_schemas.model.attempts import Attempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.statistics import Statistics
from trialstream.updates import Update

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BandKey",
    "BandOptions",
    "By",
    "Callback",
    "CommitLevel",
    "HistoryOptions",
    "MetricBands",
    "MetricHistory",
    "Protocol",
    "Query",
    "Reduce",
    "Sort",
    "Step",
]

Callback: TypeAlias = Callable[[], Awaitable[object] | object]
BandKey: TypeAlias = str | int | float | bool | None
By: TypeAlias = Literal["writer", "rank"]
CommitLevel: TypeAlias = Literal["spooled", "acked", "folded"]
Query: TypeAlias = Mapping[str, Any]
Reduce: TypeAlias = Literal["mean", "min", "max", "sum", "count"]
Sort: TypeAlias = str | Sequence[str | tuple[str, int]] | None
Step: TypeAlias = int | float | str


class HistoryOptions(TypedDict, total=False):
    """Keyword arguments of `Protocol.fetch_metrics`, which describes them, besides `by`."""

    since_step: Step | None
    since_row: int | None
    max_points: int | None
    section: Literal["metrics", "chronos", "metadata"]
    attempts: bool
    reduce: Reduce | None
    latest: bool


class BandOptions(TypedDict, total=False):
    """Keyword arguments of `Protocol.fetch_bands`, which describes them, besides `by`."""

    points: int
    quantiles: Sequence[float]
    section: Literal["metrics", "chronos", "metadata"]
    latest: bool


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

    With `reduce`, the elements are one for each step, in the order of the steps: see `Protocol.fetch_metrics`.
    """

    steps: NDArray[Any]
    times: NDArray[np.datetime64]
    writers: NDArray[np.object_]
    values: NDArray[np.float64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class MetricBands:
    """Statistics of one metric over many trials, by step: arrays of the same length, one element for each step.

    Attributes:
        steps: The common steps, ascending; float64.
        count: Number of trials that have a value at the step; int64. Without one, the statistics are NaN.
        mean: Mean, float64.
        std: Population standard deviation, float64.
        min: Minimum, float64.
        max: Maximum, float64.
        quantiles: Quantile → its values, float64.
        trials: Uids of the trials that have a history of the metric.
    """

    steps: NDArray[np.float64]
    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    quantiles: dict[float, NDArray[np.float64]]
    trials: list[str]

    def __len__(self) -> int:
        return len(self.steps)


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

    Methods that take values as keywords also take a mapping of values behind the trial or group, for names that are
    parameters: `log_trial_metrics(trial, {"step": 0.1}, step=3)`. A name in both is an `InvalidValue`.

    Every method that reads first waits until all events that this protocol has logged are folded into the documents. It
    raises `CommitTimeout` or `ProjectionBehind` if the wait takes too long, `MongoUnavailable` if MongoDB does not
    answer, `LogMismatch` if MongoDB belongs to another log than Kafka, and `Offline` if the protocol works without
    servers. With `latest=True`, it waits for all events that the log holds at the call, of any writer; it then also
    raises `KafkaUnavailable` if Kafka does not answer, and `ProjectionIsReadOnly` on a protocol without a connection to
    Kafka.
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
            ProtocolClosed: The protocol was opened before, or no asyncio event loop is running (as under trio), or
                gevent or eventlet has replaced the threads.
            KafkaUnavailable: No broker answers, and there is no spool to work with instead.
            LogMismatch: The topics do not match the identity of the log, which was recorded at its creation, or MongoDB
                belongs to another log.
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
    async def log_trial_start(self, trial: Trial, *, attempt: Attempt | None = None) -> None:
        """Log that a trial starts to run: its status becomes `Running`, and heartbeats begin.

        A second start is a resume; `starts` counts it. With an attempt, the processes of one training run start the
        trial once: the first start that names the attempt starts the trial, and the others join it. `Trial.ranks` has
        the state of each rank, and the trial ends when all ranks have ended: `Exception` if any failed, otherwise
        `Interrupted` if any was, otherwise `Completed`.

        An attempt with a `resume_step` rewinds the trial: rows of earlier attempts, and of writers without an attempt,
        are superseded if their step is a larger number. Nothing is deleted: see `fetch_metrics`.

        Args:
            trial: The trial.
            attempt: The attempt, and the place of this process in it; None for a start of the whole trial. A Protocol
                takes part in one attempt of a trial, to which all its rows of the trial belong: open another Protocol
                for another attempt.

        Raises:
            InvalidValue: This Protocol takes part in another attempt of the trial.
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
        clock if this process started the trial, and are otherwise the difference of the two times in the log. A further
        finish without a start in between changes the status and the errors only, not the runtime or `finished`.

        The finish of a process that takes part in an attempt ends its rank, and the trial if it is the last rank of the
        latest attempt: see `log_trial_start`.

        Args:
            trial: The trial.
            exc_type: Class of the exception that ended it, or None.
            exc_val: The exception; its message is appended to `errors`, and so is that of a KeyboardInterrupt that has
                one, such as the name of a signal.
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
            start_callback: Called where this call is made, before the chrono starts; sync or async. If it raises, the
                call raises its exception, and the chrono does not start.
            end_callback: Called where `log_trial_chrono_finish` is called, before the chrono stops, for example to
                synchronise a device; sync or async.
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
        """Call the `end_callback`, stop the chrono and log its elapsed seconds.

        If the callback raises, the chrono is logged and counts in `failed_chronos`, and the call raises its exception.
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
    async def log_trial_arguments(self, /, trial: Trial, *values: Mapping[str, Any], **kwargs: Any) -> None:
        """Merge values into the parameters; the uid does not change.

        Args:
            trial: The trial.
            *values: A mapping of more values, or nothing.
            **kwargs: Values by name.
        """

    @overload
    @abstractmethod
    async def log_trial_metadata(
        self, /, trial: Trial, aggregator: AggregatorSpec | None = value_aggregator, **kwargs: Any
    ) -> None: ...

    @overload
    @abstractmethod
    async def log_trial_metadata(
        self,
        /,
        trial: Trial,
        *values: Mapping[str, Any],
        aggregator: AggregatorSpec | None = value_aggregator,
        **kwargs: Any,
    ) -> None: ...

    @abstractmethod
    async def log_trial_metadata(
        self, /, trial: Trial, *args: Any, aggregator: AggregatorSpec | None = value_aggregator, **kwargs: Any
    ) -> None:
        """Merge values into the metadata.

        Args:
            trial: The trial.
            *args: A mapping of more values; the aggregator, if it is positional.
            aggregator: Aggregator of the keys; any but a `ValueAggregator`, the default, accumulates their values. None
                means the default.
            **kwargs: Values by name.
        """

    @overload
    @abstractmethod
    async def log_trial_metrics(
        self, /, trial: Trial, step: Step | None = None, aggregator: AggregatorSpec | None = None, **kwargs: Any
    ) -> None: ...

    @overload
    @abstractmethod
    async def log_trial_metrics(
        self,
        /,
        trial: Trial,
        *values: Mapping[str, Any],
        step: Step | None = None,
        aggregator: AggregatorSpec | None = None,
        **kwargs: Any,
    ) -> None: ...

    @abstractmethod
    async def log_trial_metrics(
        self,
        /,
        trial: Trial,
        *args: Any,
        step: Step | None = None,
        aggregator: AggregatorSpec | None = None,
        **kwargs: Any,
    ) -> None:
        """Log one row of numbers.

        Args:
            trial: The trial.
            *args: A mapping of more numbers, whose names may be those of parameters: `{"step": 0.1}`; step and
                aggregator, if they are positional.
            step: Step of the row: an int, a float or a text, in any order, or None.
            aggregator: Aggregator of the metrics; `timeseries_aggregator` if not given. If rows of one name have
                different aggregators, the first one in the log is used. Rows whose aggregator is a time series are kept
                in the history.
            **kwargs: Numbers by name: int, float, bool, numpy scalars, or objects with an `item()` that returns one.
                They become doubles. An integer that loses digits, as one beyond 2**53 may, causes a `RuntimeWarning`
                once for each name. The call does not wait for a tensor of torch on a CUDA device, nor for an array of
                jax: it copies them, and the copies are read once the device has computed them. What is logged for the
                trial afterwards waits behind the row.
        """

    def log_trial_metrics_nowait(
        self,
        trial: Trial,  # noqa: ARG002 (for implementations that can)
        step: Step | None,  # noqa: ARG002
        aggregator: AggregatorSpec | None,  # noqa: ARG002
        values: dict[str, Any],  # noqa: ARG002
    ) -> bool:
        """Log a row from any thread, if it needs no checks.

        That is a row with the trial object, the names, the aggregator and the types of an earlier one. A row after each
        look of the I/O thread into the inbox needs checks, too.

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
    async def add_trial_tags(self, /, trial: Trial, *values: Mapping[str, Any], **kwargs: Any) -> None:
        """Merge values into the tags.

        Args:
            trial: The trial.
            *values: A mapping of more values, or nothing.
            **kwargs: Values by name.
        """

    # --- Projects and groups

    @abstractmethod
    async def get_project(self, project: Project, *, latest: bool = False) -> Project | None:
        """Read a project by its name.

        Args:
            project: A project with that name.
            latest: As for `fetch_trials`.

        Returns:
            The project as it is stored; None if there is none.
        """

    @abstractmethod
    async def new_project(self, project: Project, *, wait: bool = True) -> Project:
        """Create a project.

        Args:
            project: The project, without groups and trials unless a call has returned it.
            wait: Whether to wait until the log has decided whether the project is new; as for `new_trial`.

        Returns:
            The created project, or the existing one of that name; without waiting, the project as it was passed.

        Raises:
            InvalidValue: A new project has groups or trials.
            CommitTimeout: Kafka has not acknowledged the event in time.
            ProjectionBehind: The consumer has not folded the event in time.
        """

    @abstractmethod
    async def get_trial_group(self, group: TrialGroup, *, latest: bool = False) -> TrialGroup | None:
        """Read a group by its name and project.

        Args:
            group: A group with that name and project.
            latest: As for `fetch_trials`.

        Returns:
            The group as it is stored; None if there is none.
        """

    @abstractmethod
    async def new_trial_group(self, group: TrialGroup, *, wait: bool = True) -> TrialGroup | None:
        """Create a group.

        Args:
            group: The group, without trials unless a call has returned it.
            wait: Whether to wait until the log has decided whether the group is new; as for `new_trial`.

        Returns:
            The created group; None if it exists already. Without waiting, the group as it was passed.

        Raises:
            InvalidValue: A new group has trials, or another value that a creation does not carry.
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
    async def set_group_metadata(self, /, group: TrialGroup, *values: Mapping[str, Any], **kwargs: Any) -> None:
        """Merge values into the metadata of a group.

        Args:
            group: The group.
            *values: A mapping of more values, or nothing.
            **kwargs: Values by name.

        Raises:
            ItemNotFound: The group does not exist.
        """

    # --- Creating and claiming trials

    @abstractmethod
    async def get_trial(self, trial: Trial, *, latest: bool = False) -> list[Trial]:
        """Read all revisions of a trial's definition.

        Args:
            trial: A trial with that definition.
            latest: As for `fetch_trials`.

        Returns:
            The revisions, ascending; empty if there are none.

        Raises:
            InvalidValue: A new trial has a hash that is not that of its definition.
        """

    @abstractmethod
    async def new_trial(
        self, trial: Trial, auto_increment: bool = False, *, wait: bool = True, run_id: str | None = None
    ) -> Trial | None:
        """Create a trial.

        Args:
            trial: The definition of the trial, its description, metadata, tags and first status: `Status.CreatedGroup`
                if it has none. A status does not start or finish the trial. If a call has returned the trial, its next
                revision has the status `CreatedGroup`, and nothing that was logged but arguments and plain metadata.
            auto_increment: Whether to create the next revision if the trial exists.
            wait: Whether to wait until the log has decided the revision. Without waiting, which needs `auto_increment`,
                the trial can be logged to at once; it has no revision yet, and its uid contains the creating request.
                With the setting `sync_writes` the call always waits.
            run_id: Id of a training run, 1 to 200 characters, such as that of a job. All calls with the same id and the
                same definition create one trial, whatever process makes them and whenever: the log takes the first
                creation, and each call returns its trial. So no rank has to wait for another one.

        Returns:
            The created trial; None if it exists and `auto_increment` is false.

        Raises:
            InvalidType: A field or `run_id` has the wrong type.
            InvalidValue: A field of a new trial has a value that a creation does not carry, such as `metrics`; or
                `wait` is false without `auto_increment`; or `run_id` is empty or too long.
            ItemNotFound: Its project or group does not exist.
            CommitTimeout: Kafka has not acknowledged the event in time; not with `auto_increment`, see docs/spool.md.
            ProjectionBehind: The consumer has not folded the event in time; not with `auto_increment` either.
        """

    @overload
    @abstractmethod
    async def fetch_and_update_trial(self, /, query: Query, attr: str, *args: Any, **kwargs: Any) -> Trial: ...

    @overload
    @abstractmethod
    async def fetch_and_update_trial(self, /, query: Query, *, updates: Sequence[Update]) -> Trial: ...

    @abstractmethod
    async def fetch_and_update_trial(
        self, /, query: Query, attr: str | None = None, *args: Any, **kwargs: Any
    ) -> Trial:
        """Claim exactly one trial that matches, apply one or several updates to it, and return it.

        If several workers claim the same trial at the same time, exactly one gets it; the others claim other trials.

        Several updates, `updates=[update("set_trial_status", Status.Running), update("log_trial_metrics", step=0,
        loss=1.0)]`, are one event: they are applied in their order, and all of them or none.

        Args:
            query: As for `fetch_trials`.
            attr: Name of an update method whose first argument is the trial, such as `set_trial_status`.
            *args: Its arguments after the trial.
            **kwargs: Its keyword arguments. Without `attr`, the only keyword is `updates`: a list of what
                `trialstream.update` returns.

        Returns:
            The trial after the update.

        Raises:
            ItemNotFound: No trial matches.
            QueryError: The query is not supported, or an update cannot claim.
            InvalidType: An argument cannot be logged; the message names it, as in `updates[1]: step: ...`.
            InvalidValue: The same; or the updates do not fit one event, or the fold refused one of them.
        """

    @overload
    @abstractmethod
    async def fetch_and_update_group(self, /, query: Query, attr: str, *args: Any, **kwargs: Any) -> TrialGroup: ...

    @overload
    @abstractmethod
    async def fetch_and_update_group(self, /, query: Query, *, updates: Sequence[Update]) -> TrialGroup: ...

    @abstractmethod
    async def fetch_and_update_group(
        self, /, query: Query, attr: str | None = None, *args: Any, **kwargs: Any
    ) -> TrialGroup:
        """Claim exactly one group that matches, apply one or several updates to it, and return it.

        Args:
            query: As for `fetch_groups`.
            attr: Name of the update method; only `set_group_metadata` can claim a group.
            *args: Its arguments after the group.
            **kwargs: Its keyword arguments; without `attr`, `updates` as for `fetch_and_update_trial`.

        Returns:
            The group after the update.

        Raises:
            ItemNotFound: No group matches.
            QueryError: The query is not supported, or an update cannot claim.
            InvalidType: As for `fetch_and_update_trial`.
            InvalidValue: As for `fetch_and_update_trial`.
        """

    # --- Reading

    @abstractmethod
    async def fetch_trials(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[Trial]:
        """Read the trials that match a MongoDB query over their fields.

        Args:
            query: Operators `$eq $ne $gt $gte $lt $lte $in $nin $and $or $nor $not $exists $regex $all $elemMatch
                $size` and dotted paths. `status` takes a `Status`, its name, None for `CreatedGroup`, or a list of
                them; times take a `datetime`, a `date` or ISO 8601 text.
                None or no query matches all trials.
            sort: A path, `-path` for descending, or a list of them; by creation if not given. Missing values and NaN
                come last in either direction.
            limit: Maximum number of trials; None for all.
            offset: Number of trials to leave out before them, in the order of the sort: for the pages of a table, give
                a sort that decides between equal trials, such as `["-created", "uid"]`.
            fields: Paths of the fields to read, such as `status` or `metrics.loss`; None for all. The other fields of
                the returned objects have their defaults, except the uid, the name and `created`. Do not create
                trials from such partial objects: their definition is not complete.
            latest: Whether to wait until the projection has all events that the log holds at the call, of any writer:
                those of processes that have ended, for example. By default, only the events of this protocol. Events
                that another process has queued, but Kafka has not acknowledged, are not in the log.

        Returns:
            The trials.

        Raises:
            QueryError: The query, the sort keys, the limit, the offset or a field are not supported; the message names
                the part.
            MongoUnavailable: MongoDB does not answer.
            QueryTimeout: The call took longer than the timeout of the protocol; it is a `MongoUnavailable`, too.
            KafkaUnavailable: With `latest`, Kafka has not returned the end of the log in time.
            ProjectionBehind: The consumer has not folded the events in time.
            ProjectionIsReadOnly: With `latest`, the protocol has no connection to Kafka.
        """

    @abstractmethod
    async def fetch_values(
        self,
        fields: Sequence[str],
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
        latest: bool = False,
    ) -> list[tuple[Any, ...]]:
        """Read the values of some fields of the trials that match: the rows of a table, without an object for each.

        Args:
            fields: Paths of the fields, at least one, such as `status`, `parameters.lr` or `metrics.loss.last`. A path
                into a list, such as `errors.type`, gives the list of what its elements have there.
            query: As for `fetch_trials`.
            sort: As for `fetch_trials`.
            limit: As for `fetch_trials`.
            offset: As for `fetch_trials`.
            latest: As for `fetch_trials`.

        Returns:
            For each trial, a tuple of the values in the order of the fields: those that a fetched `Trial` has, and None
            for a field that the trial does not have.

        Raises:
            QueryError: A field, the query, the sort keys, the limit or the offset are not supported; the message names
                the part.
        """

    @abstractmethod
    async def count_trials(self, query: Query | None = None, *, latest: bool = False) -> int:
        """Count the trials that match.

        Args:
            query: As for `fetch_trials`.
            latest: As for `fetch_trials`.

        Returns:
            The number of trials.

        Raises:
            QueryError: The query is not supported; the message names the part.
            MongoUnavailable: As for `fetch_trials`.
        """

    @abstractmethod
    async def fetch_groups(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[TrialGroup]:
        """Read the groups that match, with the uids of their trials.

        Args:
            query: As for `fetch_trials`, over the fields of groups.
            sort: As for `fetch_trials`.
            limit: Maximum number of groups; None for all.
            fields: As for `fetch_trials`; `trials` are the uids of the trials.
            latest: As for `fetch_trials`.

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
        latest: bool = False,
    ) -> list[Project]:
        """Read the projects that match, with the uids of their groups and trials.

        Args:
            query: As for `fetch_trials`, over the fields of projects.
            sort: As for `fetch_trials`.
            limit: Maximum number of projects; None for all.
            fields: As for `fetch_trials`; `groups` and `trials` are the uids of these.
            latest: As for `fetch_trials`.

        Returns:
            The projects.

        Raises:
            QueryError: As for `fetch_trials`.
            MongoUnavailable: As for `fetch_trials`.
        """

    @overload
    @abstractmethod
    async def fetch_metrics(
        self, trial: Trial, *names: str, by: None = None, **options: Unpack[HistoryOptions]
    ) -> dict[str, MetricHistory]: ...

    @overload
    @abstractmethod
    async def fetch_metrics(
        self, trial: Trial, *names: str, by: Literal["writer"], **options: Unpack[HistoryOptions]
    ) -> dict[str, dict[str, MetricHistory]]: ...

    @overload
    @abstractmethod
    async def fetch_metrics(
        self, trial: Trial, *names: str, by: Literal["rank"], **options: Unpack[HistoryOptions]
    ) -> dict[str, dict[int | None, MetricHistory]]: ...

    @abstractmethod
    async def fetch_metrics(
        self,
        trial: Trial,
        *names: str,
        since_step: Step | None = None,
        since_row: int | None = None,
        max_points: int | None = None,
        section: Literal["metrics", "chronos", "metadata"] = "metrics",
        attempts: bool = False,
        by: By | None = None,
        reduce: Reduce | None = None,
        latest: bool = False,
    ) -> dict[str, MetricHistory] | dict[str, dict[str, MetricHistory]] | dict[str, dict[int | None, MetricHistory]]:
        """Read the history of metrics that are aggregated to a time series.

        Superseded rows are left out: those whose step is a number larger than the `resume_step` of an attempt after
        that of their writer, which `log_trial_start` begins. Rows keep their numbers.

        Args:
            trial: The trial.
            *names: Names of the metrics; all if none is given.
            since_step: Only rows whose step is at least this one and of its type (number or text).
            since_row: Only rows with this number or a later one, see `MetricHistory.rows`. MongoDB returns only the
                parts of the history that can have such rows.
            max_points: Maximum number of points of each history, 3 or more. Longer ones are downsampled such that no
                spike is lost: the rows are cut into `(max_points - 2) // 2` buckets of equal length, or into
                `(max_points - 2) // 3` if values are NaN or infinite, and the result has the minimum, the maximum and
                the first NaN or infinite value of each bucket, and the first and the last row.
            section: Section of the trial: `metrics`, `chronos` or `metadata`.
            attempts: Whether to return the rows of all attempts, also the superseded ones.
            by: `writer` or `rank` to return the rows of each writer, or of each rank of the attempts, as a history of
                their own. The rank of rows whose writer has none is None.
            reduce: `mean`, `min`, `max`, `sum` or `count` to reduce all rows of a step to one, those of each writer or
                rank by themselves. The steps are ascending, then texts and None follow; a row has the time, the writer
                and the number of the last of its rows. The result is NaN if one of the values is, except the count.
                `max_points` applies to the result.
            latest: As for `fetch_trials`.

        Returns:
            The histories by name; with `by`, for each name the histories by the id of the writer, in the order of their
            first rows, or by rank, ascending.

        Raises:
            InvalidValue: An argument is out of range; the message names it.
            ItemNotFound: There is no such trial, or no history of that name.
        """

    @abstractmethod
    async def fetch_histories(
        self,
        trials: Iterable[Trial],
        *names: str,
        since_step: Step | None = None,
        since_row: int | None = None,
        max_points: int | None = None,
        section: Literal["metrics", "chronos", "metadata"] = "metrics",
        attempts: bool = False,
        latest: bool = False,
    ) -> dict[str, dict[str, MetricHistory]]:
        """Read the histories of many trials in one query.

        Args:
            trials: The trials.
            *names: Names of the metrics; all if none is given.
            since_step: As for `fetch_metrics`.
            since_row: As for `fetch_metrics`; rows are numbered in each trial by itself.
            max_points: As for `fetch_metrics`.
            section: As for `fetch_metrics`.
            attempts: As for `fetch_metrics`.
            latest: As for `fetch_trials`.

        Returns:
            For the uid of each trial, in the order of the trials, the histories by name. A trial has no entry for a
            name of which it has no history; its dict may be empty.

        Raises:
            ItemNotFound: One of the trials does not exist.
        """

    @overload
    @abstractmethod
    async def fetch_bands(
        self, trials: Query | Iterable[Trial], name: str, *, by: None = None, **options: Unpack[BandOptions]
    ) -> MetricBands: ...

    @overload
    @abstractmethod
    async def fetch_bands(
        self, trials: Query | Iterable[Trial], name: str, *, by: str, **options: Unpack[BandOptions]
    ) -> dict[BandKey, MetricBands]: ...

    @abstractmethod
    async def fetch_bands(
        self,
        trials: Query | Iterable[Trial],
        name: str,
        *,
        by: str | None = None,
        points: int = 200,
        quantiles: Sequence[float] = (0.25, 0.5, 0.75),
        section: Literal["metrics", "chronos", "metadata"] = "metrics",
        latest: bool = False,
    ) -> MetricBands | dict[BandKey, MetricBands]:
        """Read statistics of a metric over many trials by step, such as those of the seeds of a group.

        The values of each trial are interpolated linearly between its first and its last step; outside, it has none.
        Values at the same step of a trial, such as those of its ranks, are replaced by their mean. NaN is left out, and
        so are superseded rows and rows whose step is not a number.

        Args:
            trials: The trials, or a query for them, as for `fetch_trials`.
            name: Name of the metric.
            by: Path of a field, such as `group_id` or `parameters.lr`, to return the statistics of the trials with each
                value of it; None for those of all trials.
            points: Maximum number of steps, 2 to 10,000. If the trials have no more steps, the result has all of
                them, and otherwise this many at equal distances.
            quantiles: The quantiles to compute, numbers from 0 to 1.
            section: As for `fetch_metrics`; only rows with steps count, which chronos and metadata do not have.
            latest: As for `fetch_trials`.

        Returns:
            The statistics; empty without a history of that name. With `by`, a dict by value, in the order of the first
            trials: None where it is missing, and its text if it is a list or a dict. All have the same steps.

        Raises:
            InvalidValue: `points` or `quantiles` are out of range.
            ItemNotFound: One of the given trials does not exist.
            QueryError: The query or `by` is not supported.
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
            CommitTimeout: Kafka, or the disk, has not taken all events in time, or a device has not computed a value;
                they stay queued.
            SpoolError: The level is `spooled` and there is no spool, or the disk did not confirm the write.
            ProjectionBehind: The consumer has not folded them in time; the message says how far behind it is.
            LogMismatch: The topics were recreated, or MongoDB belongs to another log than Kafka.
        """
