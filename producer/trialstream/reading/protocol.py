"""`ReadingProtocol`: implements `get_*` and `fetch_*` for every protocol that reads through a `Reader`."""

# ruff: noqa: D102 (the methods are described in trialstream/protocol.py)

from __future__ import annotations

import typing
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from trialstream_schemas.errors import InvalidValue, ItemNotFound
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import check_name

from trialstream.protocol import MetricHistory, Protocol, Query, Sort, Step
from trialstream.reading.checks import checked, checked_trials, definition
from trialstream.reading.history import check_points, check_row, downsampled, histories
from trialstream.reading.reader import Collection, Read, Reader, Section, Since
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

    async def read(self, read: Read[T], *, latest: bool = False) -> T:
        """Wait until the projection shows all events that this protocol has logged, then run a read in the I/O thread.

        Args:
            read: The read.
            latest: Whether to wait for all events that the log holds at the call, of any writer.

        Returns:
            Its result.

        Raises:
            CommitTimeout: Kafka has not acknowledged the events of this protocol in time.
            ProjectionBehind: The consumer has not folded the events in time.
            MongoUnavailable: MongoDB does not answer.
            KafkaUnavailable: With `latest`, Kafka has not returned the end of the log in time.
            ProjectionIsReadOnly: With `latest`, the protocol has no connection to Kafka.
        """

    def remember(self, collection: Collection, *uids: str) -> None:
        """Remember that these documents exist."""

    def knows(self, collection: Collection, uid: str) -> bool:
        """Whether a document is known to exist."""


class ReadingProtocol(Protocol):
    """Implements the methods that read: `get_*`, and `fetch_*` except the claims.

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

    async def get_project(self, project: Project, *, latest: bool = False) -> Project | None:
        checked(project, Project, "project")
        session = self._session
        found = await session.read(session.reader.projects({"uid": project.uid}), latest=latest)
        return found[0] if found else None

    async def get_trial_group(self, group: TrialGroup, *, latest: bool = False) -> TrialGroup | None:
        checked(group, TrialGroup, "group")
        session = self._session
        found = await session.read(session.reader.groups({"uid": group.uid}), latest=latest)
        return found[0] if found else None

    async def get_trial(self, trial: Trial, *, latest: bool = False) -> list[Trial]:
        checked(trial, Trial, "trial")
        session = self._session
        read = session.reader.trials({"hash": definition(trial).hash}, sort="revision")
        return await session.read(read, latest=latest)

    async def fetch_trials(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[Trial]:
        session = self._session
        found = await session.read(session.reader.trials(query, sort=sort, limit=limit, fields=fields), latest=latest)
        session.remember("trials", *(each.uid for each in found))
        return found

    async def fetch_values(
        self,
        fields: Sequence[str],
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        latest: bool = False,
    ) -> list[tuple[Any, ...]]:
        session = self._session
        return await session.read(session.reader.values(fields, query, sort=sort, limit=limit), latest=latest)

    async def fetch_groups(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[TrialGroup]:
        session = self._session
        found = await session.read(session.reader.groups(query, sort=sort, limit=limit, fields=fields), latest=latest)
        session.remember("groups", *(each.uid for each in found))
        return found

    async def fetch_projects(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[Project]:
        session = self._session
        found = await session.read(session.reader.projects(query, sort=sort, limit=limit, fields=fields), latest=latest)
        session.remember("projects", *(each.uid for each in found))
        return found

    async def fetch_metrics(
        self,
        trial: Trial,
        *names: str,
        since_step: Step | None = None,
        since_row: int | None = None,
        max_points: int | None = None,
        section: Section = "metrics",
        latest: bool = False,
    ) -> dict[str, MetricHistory]:
        uid = checked(trial, Trial, "trial").uid
        by_uid = await self.fetch_histories(
            [trial],
            *names,
            since_step=since_step,
            since_row=since_row,
            max_points=max_points,
            section=section,
            latest=latest,
        )
        if missing := set(names) - by_uid[uid].keys():
            raise ItemNotFound(f"trial {uid} has no history of {section} {', '.join(sorted(missing))}")
        return by_uid[uid]

    async def fetch_histories(
        self,
        trials: Iterable[Trial],
        *names: str,
        since_step: Step | None = None,
        since_row: int | None = None,
        max_points: int | None = None,
        section: Section = "metrics",
        latest: bool = False,
    ) -> dict[str, dict[str, MetricHistory]]:
        given = checked_trials(trials)
        since = Since(check_step(since_step, "since_step"), check_row(since_row))
        max_points = check_points(max_points)
        for name in names:
            check_name(name, "metric")
        if section not in ("metrics", "chronos", "metadata"):
            raise InvalidValue(f"section: expected 'metrics', 'chronos' or 'metadata', got {section!r}")

        session = self._session
        unknown = [each.uid for each in given if each.request is None and not session.knows("trials", each.uid)]
        if unknown:  # one query for all of them, where each would need one of its own
            exist = await session.read(lambda: session.reader.existing("trials", unknown), latest=latest)
            session.remember("trials", *exist)
        uids = {each.uid: await self._history_uid(each) for each in given}
        stored = list(uids.values())
        buckets = await session.read(lambda: session.reader.histories(stored, section, names, since), latest=latest)

        def arrays() -> dict[str, dict[str, MetricHistory]]:
            by_uid = {}
            for uid in list(buckets):
                found = histories(buckets.pop(uid), since)  # not all buckets are held beside all arrays
                if max_points is not None:
                    found = {name: downsampled(each, max_points) for name, each in found.items()}
                by_uid[uid] = found
            return {given_uid: by_uid.get(uid, {}) for given_uid, uid in uids.items()}

        found: dict[str, dict[str, MetricHistory]] = await in_caller(arrays)  # long ones would hold up the I/O thread
        return found
