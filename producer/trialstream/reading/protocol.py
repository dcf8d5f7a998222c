"""`ReadingProtocol`: implements `get_*` and `fetch_*` for every protocol that reads through a `Reader`."""

# ruff: noqa: D102 (the methods are described in trialstream/protocol.py)

from __future__ import annotations

import functools
import typing
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

from trialstream_schemas.errors import InvalidValue, ItemNotFound
from trialstream_schemas.model.outline import Outline
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import check_name

from trialstream.protocol import (
    BandKey,
    BandOptions,
    By,
    HistoryOptions,
    MetricBands,
    MetricHistory,
    Protocol,
    Query,
    Reduce,
    Sort,
    Step,
)
from trialstream.reading.bands import Curve, bands_by_value, check_grid, check_quantiles, curves_of
from trialstream.reading.budget import within, within_timeout
from trialstream.reading.checks import checked, checked_trials, definition
from trialstream.reading.feed import ChangeFeed
from trialstream.reading.history import check_points, check_row, downsampled, histories
from trialstream.reading.operands import query_errors
from trialstream.reading.paths import TRIAL_FIELDS, resolve
from trialstream.reading.pieces import cut
from trialstream.reading.reader import (
    Collection,
    Heading,
    Owner,
    Read,
    Reader,
    Section,
    Since,
    TrialCounts,
    WithAttempts,
)
from trialstream.reading.rewinds import Rewinds
from trialstream.reading.views import View
from trialstream.runtime.caller import in_caller
from trialstream.runtime.lifecycle import Lifecycle

__all__ = ["ReadSession", "ReadingProtocol"]

T = TypeVar("T")
_OUTLINES_SECONDS = 5.0
# Trials, and their rows, whose histories are held at once, 65 bytes a row: of each, one value for each step remains.
_TRIALS_AT_ONCE, _ROWS_AT_ONCE = 64, 1_000_000


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

        Both together take no longer than the timeout, or what is left of it to the call (`budget.py`).

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

    def changes(self, query: Query | None = None, *, fields: Sequence[str] | None = None) -> ChangeFeed:
        """Make a feed of the changes of trials, for the I/O thread: see `Reader.changes`."""
        return self._session.reader.changes(query, fields=fields)

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
        offset: int = 0,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[Trial]:
        session = self._session
        read = session.reader.trials(query, sort=sort, limit=limit, offset=offset, fields=fields)
        found = await session.read(read, latest=latest)
        session.remember("trials", *(each.uid for each in found))
        return found

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
        session = self._session
        read = session.reader.values(fields, query, sort=sort, limit=limit, offset=offset)
        return await session.read(read, latest=latest)

    async def fetch_cells(
        self,
        fields: Sequence[str],
        query: Query | None = None,
        *,
        max_bytes: int,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[tuple[Any, ...]]:
        """Read values as `fetch_values`, in which a value of more than `max_bytes` is a `LongValue`."""
        session = self._session
        read = session.reader.values(fields, query, sort=sort, limit=limit, offset=offset, max_bytes=max_bytes)
        return await session.read(read)

    async def trial_counts(self, by: Owner, project: str | None = None) -> list[TrialCounts]:
        """Count the trials of each project or group: see `Reader.trial_counts`."""
        return await self._session.read(self._session.reader.trial_counts(by, project))

    async def headings(
        self, collection: Literal["groups", "projects"], project: str | None = None, *, limit: int
    ) -> list[Heading]:
        """Read the latest projects or groups, with little of each: see `Reader.headings`."""
        return await self._session.read(self._session.reader.headings(collection, project, limit))

    async def count_trials(self, query: Query | None = None, *, latest: bool = False) -> int:
        session = self._session
        return await session.read(session.reader.count(query), latest=latest)

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

    @overload
    async def fetch_metrics(
        self, trial: Trial, *names: str, by: None = None, **options: Unpack[HistoryOptions]
    ) -> dict[str, MetricHistory]: ...

    @overload
    async def fetch_metrics(
        self, trial: Trial, *names: str, by: Literal["writer"], **options: Unpack[HistoryOptions]
    ) -> dict[str, dict[str, MetricHistory]]: ...

    @overload
    async def fetch_metrics(
        self, trial: Trial, *names: str, by: Literal["rank"], **options: Unpack[HistoryOptions]
    ) -> dict[str, dict[int | None, MetricHistory]]: ...

    @within_timeout
    async def fetch_metrics(
        self,
        trial: Trial,
        *names: str,
        since_step: Step | None = None,
        since_row: int | None = None,
        max_points: int | None = None,
        section: Section = "metrics",
        attempts: bool = False,
        by: By | None = None,
        reduce: Reduce | None = None,
        latest: bool = False,
    ) -> dict[str, MetricHistory] | dict[str, dict[str, MetricHistory]] | dict[str, dict[int | None, MetricHistory]]:
        uid = checked(trial, Trial, "trial").uid
        view = View(by, reduce)
        by_uid = await self._views(
            [trial], names, view, since_step, since_row, max_points, section, attempts=attempts, latest=latest
        )
        found: dict[str, MetricHistory] = by_uid[uid]
        if missing := set(names) - found.keys():
            raise ItemNotFound(f"trial {uid} has no history of {section} {', '.join(sorted(missing))}")
        return found

    @within_timeout
    async def fetch_histories(
        self,
        trials: Iterable[Trial],
        *names: str,
        since_step: Step | None = None,
        since_row: int | None = None,
        max_points: int | None = None,
        section: Section = "metrics",
        attempts: bool = False,
        latest: bool = False,
    ) -> dict[str, dict[str, MetricHistory]]:
        given = checked_trials(trials)
        return await self._views(
            given, names, View(), since_step, since_row, max_points, section, attempts=attempts, latest=latest
        )

    async def outlines(self, uids: Sequence[str], *names: str) -> dict[str, dict[str, Outline]]:
        """Read the outlines of metrics: see `Reader.outlines`.

        Raises:
            MongoUnavailable: MongoDB does not answer, or not within 5 s: what is to be shown at once waits no longer.
        """
        with within(_OUTLINES_SECONDS):
            return await self._session.read(lambda: self._session.reader.outlines(uids, names))

    @overload
    async def fetch_bands(
        self, trials: Query | Iterable[Trial], name: str, *, by: None = None, **options: Unpack[BandOptions]
    ) -> MetricBands: ...

    @overload
    async def fetch_bands(
        self, trials: Query | Iterable[Trial], name: str, *, by: str, **options: Unpack[BandOptions]
    ) -> dict[BandKey, MetricBands]: ...

    @within_timeout
    async def fetch_bands(
        self,
        trials: Query | Iterable[Trial],
        name: str,
        *,
        by: str | None = None,
        points: int = 200,
        quantiles: Sequence[float] = (0.25, 0.5, 0.75),
        section: Section = "metrics",
        latest: bool = False,
    ) -> MetricBands | dict[BandKey, MetricBands]:
        points, levels = check_grid(points), check_quantiles(quantiles)
        if by is not None:
            with query_errors():
                resolve(by, TRIAL_FIELDS)
        if isinstance(trials, Mapping):
            fields = ["uid"] if by is None else [by]
            given = await self.fetch_trials(trials, fields=fields, latest=latest)
        else:
            given = list({each.uid: each for each in checked_trials(trials)}.values())
        curves: dict[str, Curve] = {}
        for at in range(0, len(given), _TRIALS_AT_ONCE):
            some = given[at : at + _TRIALS_AT_ONCE]
            uids = {"uid": {"$in": [each.uid for each in some]}}
            rows = dict(await self.fetch_values(["uid", "rows"], uids, latest=latest))
            for part in cut(some, [rows.get(each.uid, 0) for each in some], _ROWS_AT_ONCE):
                read = await self._views(part, [name], View(), None, None, None, section, attempts=False, latest=latest)
                curves.update(await in_caller(functools.partial(curves_of, read, name)))
        made = functools.partial(bands_by_value, given, curves, by, points, levels)
        by_value: dict[BandKey, MetricBands] = await in_caller(made)
        return by_value[None] if by is None else by_value

    async def _views(
        self,
        given: Sequence[Trial],
        names: Sequence[str],
        view: View,
        since_step: Step | None,
        since_row: int | None,
        max_points: int | None,
        section: Section,
        *,
        attempts: bool,
        latest: bool,
    ) -> dict[str, dict[str, Any]]:
        """Read histories, and make a view of each: for the uid of each trial, the views by name."""
        since = Since(check_step(since_step, "since_step"), check_row(since_row))
        max_points = check_points(max_points)
        view.check()
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
        with_attempts: WithAttempts = "all" if view.by == "rank" else "none" if attempts else "rewound"
        buckets, attempted = await session.read(
            lambda: session.reader.histories(stored, section, names, since, with_attempts), latest=latest
        )

        def finish(history: MetricHistory) -> MetricHistory:
            return history if max_points is None else downsampled(history, max_points)

        def views() -> dict[str, dict[str, Any]]:
            by_uid = {}
            for uid in list(buckets):
                trial = attempted.get(uid)
                rewinds = None if trial is None or attempts else Rewinds(trial)
                found = histories(buckets.pop(uid), since, rewinds)  # not all buckets are held beside all arrays
                by_uid[uid] = {name: view.of(each, trial, finish) for name, each in found.items()}
            return {given_uid: by_uid.get(uid, {}) for given_uid, uid in uids.items()}

        found: dict[str, dict[str, Any]] = await in_caller(views)  # long ones would hold up the I/O thread
        return found
