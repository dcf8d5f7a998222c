"""`ReadingProtocol`: implements `get_*` and `fetch_*` for every protocol that reads through a `Reader`."""

# ruff: noqa: D102 (the methods are described in trialstream/protocol.py)

from __future__ import annotations

import typing
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeVar

from trialstream_schemas.errors import InvalidValue, ItemNotFound
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import check_name

from trialstream.protocol import MetricHistory, Protocol, Query, Sort, Step
from trialstream.reading.checks import checked, definition
from trialstream.reading.history import check_points, check_row, downsampled, histories
from trialstream.reading.reader import Collection, Read, Reader, Since
from trialstream.runtime.caller import in_caller
from trialstream.runtime.lifecycle import Lifecycle

__all__ = ["ReadSession", "ReadingProtocol"]

T = TypeVar("T")


class ReadSession(typing.Protocol):
    """Interface of the connection of a `ReadingProtocol`."""

    @property
    def timeout(self) -> float:
        """Maximum duration of any wait, seconds."""

    @property
    def lifecycle(self) -> Lifecycle:
        """Opens and closes the connection, and runs calls in its I/O thread."""

    @property
    def reader(self) -> Reader:
        """The reader.

        Raises:
            ProtocolClosed: The protocol is not open.
            Offline: The protocol works without servers.
        """

    async def read(self, read: Read[T]) -> T:
        """Wait until the projection shows all events that this protocol has logged, then run a read in the I/O thread.

        Args:
            read: The read.

        Returns:
            Its result.

        Raises:
            CommitTimeout: Kafka has not acknowledged these events in time.
            ProjectionBehind: The consumer has not folded them in time.
            MongoUnavailable: MongoDB does not answer.
        """

    def remember(self, collection: Collection, *uids: str) -> None:
        """Remember that these documents exist."""


class ReadingProtocol(Protocol):
    """Implements the methods that read: `get_*`, `fetch_trials`, `fetch_groups`, `fetch_projects` and `fetch_metrics`.

    Subclasses open and close the session, and implement or refuse the methods that log.

    Args:
        session: The connection.
    """

    def __init__(self, session: ReadSession) -> None:
        self._session = session

    @property
    def lifecycle(self) -> Lifecycle:
        """Opens and closes the connection, and runs calls in its I/O thread."""
        return self._session.lifecycle

    @abstractmethod
    async def _history_uid(self, trial: Trial) -> str:
        """Return the uid under which the history of a trial is stored.

        Raises:
            ItemNotFound: There is no such trial, or its creation is not decided yet.
        """

    async def get_project(self, project: Project) -> Project | None:
        checked(project, Project, "project")
        session = self._session
        found = await session.read(session.reader.projects({"uid": project.uid}))
        return found[0] if found else None

    async def get_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        checked(group, TrialGroup, "group")
        session = self._session
        found = await session.read(session.reader.groups({"uid": group.uid}))
        return found[0] if found else None

    async def get_trial(self, trial: Trial) -> list[Trial]:
        checked(trial, Trial, "trial")
        session = self._session
        return await session.read(session.reader.trials({"hash": definition(trial).hash}, sort="revision"))

    async def fetch_trials(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[Trial]:
        session = self._session
        found = await session.read(session.reader.trials(query, sort=sort, limit=limit, fields=fields))
        session.remember("trials", *(each.uid for each in found))
        return found

    async def fetch_groups(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[TrialGroup]:
        session = self._session
        found = await session.read(session.reader.groups(query, sort=sort, limit=limit, fields=fields))
        session.remember("groups", *(each.uid for each in found))
        return found

    async def fetch_projects(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[Project]:
        session = self._session
        found = await session.read(session.reader.projects(query, sort=sort, limit=limit, fields=fields))
        session.remember("projects", *(each.uid for each in found))
        return found

    async def fetch_metrics(
        self,
        trial: Trial,
        *names: str,
        since_step: Step | None = None,
        since_row: int | None = None,
        max_points: int | None = None,
        section: Literal["metrics", "chronos", "metadata"] = "metrics",
    ) -> dict[str, MetricHistory]:
        since = Since(check_step(since_step, "since_step"), check_row(since_row))
        max_points = check_points(max_points)
        for name in names:
            check_name(name, "metric")
        if section not in ("metrics", "chronos", "metadata"):
            raise InvalidValue(f"section: expected 'metrics', 'chronos' or 'metadata', got {section!r}")
        session = self._session
        uid = await self._history_uid(trial)
        buckets = await session.read(lambda: session.reader.history(uid, section, names, since))

        def arrays() -> dict[str, MetricHistory]:
            found = histories(buckets, since)
            if missing := set(names) - found.keys():
                raise ItemNotFound(f"trial {uid} has no history of {section} {', '.join(sorted(missing))}")
            if max_points is not None:
                found = {name: downsampled(each, max_points) for name, each in found.items()}
            return found

        found: dict[str, MetricHistory] = await in_caller(arrays)  # a long one would hold up the I/O thread
        return found
