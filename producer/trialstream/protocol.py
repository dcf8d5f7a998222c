"""The Protocol: what training code speaks.

`Protocol` is the abstract interface; `trialstream.kafka.KafkaProtocol` is the one that streams to Kafka and reads from
MongoDB. No call changes the object that it was given: fetch it again to see more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.model.aggregators import AggregatorSpec, StatAggregator, value_aggregator
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

__all__ = ["Callback", "CommitLevel", "MetricHistory", "Protocol", "Query", "Sort", "Step"]

Callback: TypeAlias = Callable[[], Awaitable[object] | object]
CommitLevel: TypeAlias = Literal["spooled", "acked", "folded"]
Query: TypeAlias = Mapping[str, Any]
Sort: TypeAlias = str | Sequence[str | tuple[str, int]] | None
Step: TypeAlias = int | float | str


@dataclass(frozen=True)
class MetricHistory:
    """History of one metric, in the order of the log: four arrays of one length.

    Attributes:
        steps: int64 or float64, or object where some are text or None.
        times: When each was logged, datetime64[us] in UTC.
        writers: Which writer logged it.
        values: float64; NaN and ±inf as they were logged.
    """

    steps: NDArray[Any]
    times: NDArray[np.datetime64]
    writers: NDArray[np.object_]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)


class Protocol(ABC):
    """Logs trials and reads them back.

    All log calls raise, at the call and with nothing logged:

    - `ItemNotFound`: the trial was never created;
    - `ProtocolClosed`: the protocol was not entered, or was left;
    - `InvalidType` (a `TypeError`), `InvalidValue` (a `ValueError`): what cannot be logged; the message names it.

    All reads see what this protocol has logged: they wait until it is folded. They raise `CommitTimeout` or
    `ProjectionBehind` if that takes too long, and `MongoUnavailable` if MongoDB does not answer.
    """

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None: ...

    # --- Trials: start and end

    @abstractmethod
    async def log_trial_start(self, trial: Trial) -> None:
        """The trial runs from now on: status `Running`. A second start (a resume) is counted in `starts`."""

    @abstractmethod
    async def log_trial_finish(
        self,
        trial: Trial,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """The trial has ended: `Completed`, `Interrupted` (KeyboardInterrupt, cancellation) or `Exception`.

        `chronos["runtime"]` gets the seconds since its start: on this process's monotonic clock if it was started here,
        else by the two times in the log. An exception goes to `errors` with type, message and traceback.
        """

    # --- Chronos

    @abstractmethod
    async def log_trial_chrono_start(
        self,
        trial: Trial,
        name: str,
        aggregator: AggregatorSpec = StatAggregator.lazy(1),  # noqa: B008 (a constant)
        start_callback: Callback | None = None,
        end_callback: Callback | None = None,
    ) -> None:
        """Start a clock; `log_trial_chrono_finish` of the same name stops it.

        Chronos of one name may be open at the same time in several tasks, threads and trials. The callbacks may be sync
        or async: `start_callback` runs before the clock starts, `end_callback` before it stops, which is the place to
        synchronise a device.
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
        """Run the `end_callback`, stop the clock and record the elapsed seconds, whatever happened in between.

        It is the latest of that name that this task (or thread) started, or the only one that is open. An exception
        counts in `failed_chronos`.

        Raises:
            ChronoError: no such chrono is open, or several are and none was started by this task.
        """

    # --- Trials: what they are and how they do

    @abstractmethod
    async def log_trial_arguments(self, /, trial: Trial, **kwargs: Any) -> None:
        """Merge values into the parameters; the uid stays."""

    @abstractmethod
    async def log_trial_metadata(
        self, /, trial: Trial, aggregator: AggregatorSpec = value_aggregator, **kwargs: Any
    ) -> None:
        """Merge values into the metadata by key; an aggregator other than Value accumulates the values of its keys."""

    @abstractmethod
    async def log_trial_metrics(
        self, /, trial: Trial, step: Step | None = None, aggregator: AggregatorSpec | None = None, **kwargs: Any
    ) -> None:
        """Log one row of numbers.

        Args:
            trial: The trial.
            step: An int, a float or a text, in any order; None for none.
            aggregator: What becomes of the metrics; TimeSeries by default. The first that the log has for a name
                stays, and history is kept of the calls that ask for TimeSeries.
            **kwargs: Numbers by name: int, float, bool, numpy scalars, anything with `item()`.
        """

    def log_trial_metrics_nowait(
        self,
        trial: Trial,  # noqa: ARG002 (for those that can)
        step: Step | None,  # noqa: ARG002
        aggregator: AggregatorSpec | None,  # noqa: ARG002
        values: dict[str, Any],  # noqa: ARG002
    ) -> bool:
        """Do what `log_trial_metrics` does, from any thread, where that is to add a plain row to an open frame.

        A row is plain whose step is an int or None and whose values are floats. Nothing is waited for, not even a lock.

        Returns:
            Whether it was done; if not, call `log_trial_metrics`, which does what else there is to do, or to refuse.
        """
        return False

    @abstractmethod
    async def set_trial_status(
        self, trial: Trial, status: Status | CustomStatus, error: str | BaseException | None = None
    ) -> None:
        """Set the status; an error is appended to `errors`."""

    @abstractmethod
    async def add_trial_tags(self, /, trial: Trial, **kwargs: Any) -> None:
        """Merge values into the tags."""

    # --- Projects and groups

    @abstractmethod
    async def get_project(self, project: Project) -> Project | None:
        """The project of that name, or None."""

    @abstractmethod
    async def new_project(self, project: Project) -> Project:
        """Create the project, or return the existing one of that name."""

    @abstractmethod
    async def get_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        """The group of that name and project, or None."""

    @abstractmethod
    async def new_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        """Create the group; None if it exists.

        Raises:
            ItemNotFound: its project does not exist.
        """

    @abstractmethod
    async def add_project_trial(self, project: Project, trial: Trial) -> None:
        """Put the trial into the project; its uid stays.

        Raises:
            ItemNotFound: there is no such project or trial.
        """

    @abstractmethod
    async def add_group_trial(self, group: TrialGroup, trial: Trial) -> None:
        """Put the trial into the group; its uid stays.

        Raises:
            ItemNotFound: there is no such group or trial.
        """

    @abstractmethod
    async def set_group_metadata(self, /, group: TrialGroup, **kwargs: Any) -> None:
        """Merge values into the metadata of the group.

        Raises:
            ItemNotFound: there is no such group.
        """

    # --- Creating and claiming trials

    @abstractmethod
    async def get_trial(self, trial: Trial) -> list[Trial]:
        """All revisions of this definition, ascending; none: `[]`."""

    @abstractmethod
    async def new_trial(self, trial: Trial, auto_increment: bool = False) -> Trial | None:
        """Create the trial and return it; None if it exists, or its next revision with `auto_increment`.

        Raises:
            ItemNotFound: its project or group does not exist.
        """

    @abstractmethod
    async def fetch_and_update_trial(self, query: Query, attr: str, *args: Any, **kwargs: Any) -> Trial:
        """Claim exactly one trial that matches and apply the update `attr` to it; return it as it is then.

        Of any number of workers that claim at the same time exactly one gets a trial; the others get another.

        Args:
            query: As for `fetch_trials`.
            attr: Name of an update method whose first argument is the trial, such as `set_trial_status`.
            *args: Its arguments after the trial.
            **kwargs: Its keyword arguments.

        Raises:
            ItemNotFound: no trial matches.
            QueryError: `attr` is no update that can claim.
        """

    @abstractmethod
    async def fetch_and_update_group(self, query: Query, attr: str, *args: Any, **kwargs: Any) -> TrialGroup:
        """The same for groups; `attr` is `set_group_metadata`."""

    # --- Reading

    @abstractmethod
    async def fetch_trials(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[Trial]:
        """The trials that match a MongoDB query over their fields.

        Args:
            query: Operators `$eq $ne $gt $gte $lt $lte $in $nin $and $or $nor $not $exists $regex $all $elemMatch
                $size` and dotted paths. `status` takes a `Status`, its name, or a list of them; times take `datetime`.
            sort: A path, `-path` for descending, or a list of them; by creation if not given.
            limit: How many at most.

        Raises:
            QueryError: anything else; the message names it.
        """

    @abstractmethod
    async def fetch_groups(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[TrialGroup]:
        """The groups that match, with the uids of their trials."""

    @abstractmethod
    async def fetch_projects(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[Project]:
        """The projects that match, with the uids of their groups and trials."""

    @abstractmethod
    async def fetch_metrics(
        self,
        trial: Trial,
        *names: str,
        since_step: Step | None = None,
        max_points: int | None = None,
        section: Literal["metrics", "chronos", "metadata"] = "metrics",
    ) -> dict[str, MetricHistory]:
        """The history of metrics (those that are aggregated to a TimeSeries).

        Args:
            trial: The trial.
            *names: Which; all if none is given.
            since_step: Only rows whose step is at least this one, and of its type (number or text).
            max_points: Downsample each to at most so many, keeping what a plot shows (MinMaxLTTB).
            section: Whose time series: of the metrics, the chronos or the metadata.

        Raises:
            ItemNotFound: there is no such trial, or no history of that name.
        """

    # --- Waiting

    @abstractmethod
    async def commit(self, level: CommitLevel = "acked", timeout: float | None = None, **kwargs: Any) -> None:
        """Wait until all that was logged so far is safe.

        Args:
            level: `spooled`: Kafka has it, or it is on disk and would survive a crash of the machine. `acked`: Kafka
                has it. `folded`: `fetch_*` shows it. Offline, each of them means `spooled`.
            timeout: Seconds; None for the protocol's own.
            **kwargs: Taken and ignored, so that code written for other levels of other backends runs.

        Raises:
            CommitTimeout: Kafka, or the disk, has not taken it in time; the events stay queued.
            SpoolError: `spooled` without a spool, or on a disk that does not take it.
            ProjectionBehind: the consumer has not folded in time; the message says how far it is behind.
        """
