"""`Reader`: the interface through which protocols read. It takes queries as users write them, and returns objects.

A method that takes a query checks it at the call, in the caller's thread, and returns a *read*: a coroutine function
without parameters that runs in the I/O thread. So a wrong query raises an error before any wait, and the reader never
runs outside of its event loop. `MongoReader` implements the interface over MongoDB.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from trialstream_schemas.model.history import Bucket
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.model.outline import Outline
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.event_log.topics import Route
from trialstream.protocol import Query, Sort, Step
from trialstream.reading.feed import ChangeFeed

__all__ = [
    "HEADING_TEXT",
    "Candidate",
    "CandidateQuery",
    "Collection",
    "Decision",
    "Heading",
    "Owner",
    "Read",
    "Reader",
    "Section",
    "Since",
    "StoredHistories",
    "TrialCounts",
    "WithAttempts",
]

T = TypeVar("T")
Read: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
Collection: TypeAlias = Literal["trials", "groups", "projects"]
Section: TypeAlias = Literal["metrics", "chronos", "metadata"]
WithAttempts: TypeAlias = Literal["none", "rewound", "all"]
Owner: TypeAlias = Literal["project_id", "group_id"]

HEADING_TEXT = 1000
"""Number of characters of the description of a `Heading`."""


class Candidate(NamedTuple):
    """A document that a claim may take.

    Attributes:
        uid: Its uid.
        version: Its `state_version` when it matched the query.
    """

    uid: str
    version: int


class CandidateQuery(NamedTuple):
    """A checked query for candidates.

    Attributes:
        key: Text that identifies the query: different queries have different texts.
        find: Coroutine function that takes a limit and returns at most that many candidates, the oldest first.
    """

    key: str
    find: Callable[[int], Coroutine[Any, Any, list[Candidate]]]


class Decision(NamedTuple):
    """The outcome of a request, and the trial that it concerns.

    Attributes:
        outcome: The outcome that the fold wrote.
        trial: The trial that the request created or updated, as of the decision or later; None for a group or a
            project, and if the request was not applied.
    """

    outcome: Outcome
    trial: Trial | None


class Since(NamedTuple):
    """Lower bounds of the rows of a history that are read.

    Attributes:
        step: Minimum step: rows whose step is smaller, of the other type (number, text) or missing are left out; None
            for all rows.
        row: Minimum number of a row in the trial, from 0; None for all rows.
    """

    step: Step | None = None
    row: int | None = None


class TrialCounts(NamedTuple):
    """Numbers of the trials of a project or a group.

    Attributes:
        uid: Uid of the project or the group.
        trials: Number of its trials.
        running: Number of those that run.
        failed: Number of those that failed.
        last_seen: When one of them was last seen, microseconds since 1970 UTC; None if none was.
    """

    uid: str
    trials: int
    running: int
    failed: int
    last_seen: int | None


class Heading(NamedTuple):
    """A project or a group as a list shows it.

    Attributes:
        uid: Its uid.
        name: Its name.
        description: The first `HEADING_TEXT` characters of its description.
        project_id: Uid of the project of a group.
        created: When it was created, microseconds since 1970 UTC.
    """

    uid: str
    name: str
    description: str
    project_id: str | None
    created: int | None


class StoredHistories(NamedTuple):
    """The histories of trials as they are stored, at one moment.

    Attributes:
        buckets: The buckets of each trial by its uid, in no particular order.
        trials: Trials with attempts, by uid; partial objects with their attempts and participants only.
    """

    buckets: dict[str, list[Bucket]]
    trials: dict[str, Trial]


class Reader(ABC):
    """Reads documents, histories and outcomes of one projection."""

    async def open(self) -> None:  # noqa: B027 (most readers need not be opened)
        """Prepare the reads of a read-only protocol: see the readers."""

    # --- Reads: checked at the call, run in the I/O thread

    @abstractmethod
    def trials(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
        fields: Sequence[str] | None = None,
    ) -> Read[list[Trial]]:
        """Read the trials that match.

        Args:
            query: As for `Protocol.fetch_trials`.
            sort: As for `Protocol.fetch_trials`.
            limit: Maximum number of trials; None for all.
            offset: As for `Protocol.fetch_trials`.
            fields: As for `Protocol.fetch_trials`; None for all.

        Returns:
            The read.

        Raises:
            QueryError: The query, the sort keys, the limit, the offset or the fields are not supported.
        """

    @abstractmethod
    def values(
        self,
        fields: Sequence[str],
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
        max_bytes: int | None = None,
    ) -> Read[list[tuple[Any, ...]]]:
        """Read values of single fields of the trials that match; parameters as for `Protocol.fetch_values`.

        Args:
            fields: Paths of the fields.
            query: As for `trials`.
            sort: As for `trials`.
            limit: As for `trials`.
            offset: As for `trials`.
            max_bytes: Maximum size of a value in BSON; a larger one is a `LongValue`. None for values of any size.

        Returns:
            The read.

        Raises:
            QueryError: The fields, the query, the sort keys, the limit or the offset are not supported.
        """

    @abstractmethod
    def trial_counts(self, by: Owner, project: str | None) -> Read[list[TrialCounts]]:
        """Count the trials of each project or group.

        Args:
            by: Field by which they are counted.
            project: Uid of the project of the trials; None for all.

        Returns:
            The read; without the projects or groups that have no trial.
        """

    @abstractmethod
    def headings(
        self, collection: Literal["groups", "projects"], project: str | None, limit: int
    ) -> Read[list[Heading]]:
        """Read the latest projects or groups, with little of each.

        Args:
            collection: `projects` or `groups`.
            project: Uid of the project of the groups; None for all.
            limit: Maximum number.

        Returns:
            The read; the latest one first.
        """

    @abstractmethod
    def count(self, query: Query | None = None) -> Read[int]:
        """Count the trials that match.

        Args:
            query: As for `trials`.

        Returns:
            The read.

        Raises:
            QueryError: The query is not supported.
        """

    @abstractmethod
    def groups(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> Read[list[TrialGroup]]:
        """Read the groups that match, with the uids of their trials; parameters and errors as for `trials`."""

    @abstractmethod
    def projects(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> Read[list[Project]]:
        """Read the projects that match, with the uids of their groups and trials; otherwise as `trials`."""

    @abstractmethod
    def candidates(self, collection: Collection, query: Query) -> CandidateQuery:
        """Check a query for documents to claim.

        Args:
            collection: `trials` or `groups`.
            query: As for `Protocol.fetch_trials`.

        Returns:
            The checked query.

        Raises:
            QueryError: The query is not supported.
        """

    @abstractmethod
    def changes(self, query: Query | None = None, *, fields: Sequence[str] | None = None) -> ChangeFeed:
        """Make a feed of the changes of the trials that match.

        Args:
            query: As for `trials`.
            fields: As for `trials`.

        Returns:
            The feed, not open yet; for the I/O thread.

        Raises:
            QueryError: The query or the fields are not supported.
        """

    # --- In the I/O thread

    @abstractmethod
    async def check_log(self, log: Awaitable[str]) -> None:
        """Check that the projection was folded from a log; from then on every read checks it.

        A projection without an id of its log is accepted: no consumer has begun to fold it.

        Args:
            log: Id of the log, awaited after all requests, so that it may be looked up beside them.

        Raises:
            LogMismatch: It was folded from another log.
            MongoUnavailable: MongoDB did not answer within a second.
        """

    @abstractmethod
    async def existing(self, collection: Collection, uids: Sequence[str]) -> list[str]:
        """Return those of some uids of which the collection has a document."""

    async def exists(self, collection: Collection, uid: str) -> bool:
        """Whether the collection has a document with that uid."""
        return bool(await self.existing(collection, [uid]))

    @abstractmethod
    async def histories(
        self,
        uids: Sequence[str],
        section: Section,
        names: Sequence[str],
        since: Since,
        with_attempts: WithAttempts = "none",
    ) -> StoredHistories:
        """Read the histories of trials.

        Args:
            uids: Uids of the trials.
            section: Section of the trials.
            names: Names of the time series to read; empty for all. The buckets have the columns of these only.
            since: The rows to read.
            with_attempts: Trials whose attempts to read: those of which an attempt has rewound others, all that have
                attempts, or none.

        Returns:
            The buckets that can have such rows, and others too, at least one for each shape of the names; without the
            trials that have no bucket of the names. And the trials with attempts.
        """

    async def outlines(
        self,
        uids: Sequence[str],  # noqa: ARG002 (most readers have no outlines)
        names: Sequence[str],  # noqa: ARG002
    ) -> dict[str, dict[str, Outline]]:
        """Read the outlines of metrics: of long histories, the rows that a plot of all of it needs.

        Args:
            uids: Uids of the trials.
            names: Names of the metrics, at least one.

        Returns:
            By uid and name, the outlines that there are; those of superseded rows, too. Without one, read the history.
        """
        return {}

    @abstractmethod
    async def outcome(self, id_: str) -> Outcome | None:
        """Read the outcome of a request, without waiting for it.

        Args:
            id_: Id of the outcome: `outcome_id` of the event, or the uid of a trial whose revision is not decided.

        Returns:
            The outcome; None if the fold has not decided yet.
        """

    @abstractmethod
    async def decision(self, id_: str, timeout: float) -> Decision | None:
        """Wait for the outcome of a request.

        Args:
            id_: Id of the outcome, as for `outcome`.
            timeout: Seconds.

        Returns:
            The decision; None if the fold has not decided within the timeout.
        """

    @abstractmethod
    async def wait_folded(self, offsets: Mapping[Route, int], timeout: float, *, fresh: bool = False) -> None:
        """Wait until the projection holds all events before some offsets.

        Args:
            offsets: By partition, the offset after the last event to wait for.
            timeout: Seconds.
            fresh: Whether to look at the projection even if it held these events before: it may have been dropped.

        Raises:
            ProjectionBehind: The consumer has not folded them within the timeout.
            LogMismatch: The projection was folded from another log.
            MongoUnavailable: MongoDB does not answer.
        """

    @abstractmethod
    async def poll_decisions(self) -> None:
        """Poll the outcomes that `decision` waits for, until cancelled. One task of each connection runs this."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""
