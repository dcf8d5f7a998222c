"""The blocking methods that read: a part of `trialstream.sync.SyncProtocol`."""

# ruff: noqa: D102 (the methods are described in trialstream/protocol.py)

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, overload

from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.protocol import (
    BandKey,
    BandOptions,
    By,
    HistoryOptions,
    MetricBands,
    MetricHistory,
    Query,
    Reduce,
    Sort,
    Step,
)
from trialstream.reading.checks import checked_trials

if TYPE_CHECKING:
    from trialstream_schemas.model.outline import Outline

    from trialstream.kafka.protocol import LoggingProtocol
    from trialstream.reading.read_only import ReadOnlyProtocol

__all__ = ["BlockingReader"]

P = ParamSpec("P")
T = TypeVar("T")


class BlockingReader:
    """Methods that read through an asynchronous protocol, and block until they have their result.

    Args:
        protocol: The asynchronous protocol.
    """

    def __init__(self, protocol: LoggingProtocol | ReadOnlyProtocol) -> None:
        self._protocol = protocol

    def _run(self, method: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._protocol.lifecycle.run(functools.partial(method, *args, **kwargs))

    def get_project(self, project: Project, *, latest: bool = False) -> Project | None:
        return self._run(self._protocol.get_project, project, latest=latest)

    def get_trial_group(self, group: TrialGroup, *, latest: bool = False) -> TrialGroup | None:
        return self._run(self._protocol.get_trial_group, group, latest=latest)

    def get_trial(self, trial: Trial, *, latest: bool = False) -> list[Trial]:
        return self._run(self._protocol.get_trial, trial, latest=latest)

    def fetch_trials(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[Trial]:
        fetch = self._protocol.fetch_trials
        return self._run(fetch, query, sort=sort, limit=limit, offset=offset, fields=fields, latest=latest)

    def fetch_values(
        self,
        fields: Sequence[str],
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
        latest: bool = False,
    ) -> list[tuple[Any, ...]]:
        fetch = self._protocol.fetch_values
        return self._run(fetch, fields, query, sort=sort, limit=limit, offset=offset, latest=latest)

    def count_trials(self, query: Query | None = None, *, latest: bool = False) -> int:
        return self._run(self._protocol.count_trials, query, latest=latest)

    def fetch_groups(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[TrialGroup]:
        return self._run(self._protocol.fetch_groups, query, sort=sort, limit=limit, fields=fields, latest=latest)

    def fetch_projects(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
        latest: bool = False,
    ) -> list[Project]:
        return self._run(self._protocol.fetch_projects, query, sort=sort, limit=limit, fields=fields, latest=latest)

    @overload
    def fetch_metrics(
        self, trial: Trial, *names: str, by: None = None, **options: Unpack[HistoryOptions]
    ) -> dict[str, MetricHistory]: ...

    @overload
    def fetch_metrics(
        self, trial: Trial, *names: str, by: Literal["writer"], **options: Unpack[HistoryOptions]
    ) -> dict[str, dict[str, MetricHistory]]: ...

    @overload
    def fetch_metrics(
        self, trial: Trial, *names: str, by: Literal["rank"], **options: Unpack[HistoryOptions]
    ) -> dict[str, dict[int | None, MetricHistory]]: ...

    def fetch_metrics(
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
        return self._run(
            self._protocol.fetch_metrics,  # type: ignore[arg-type]  # one overload for each `by`
            trial,
            *names,
            since_step=since_step,
            since_row=since_row,
            max_points=max_points,
            section=section,
            attempts=attempts,
            by=by,
            reduce=reduce,
            latest=latest,
        )

    def fetch_histories(
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
        return self._run(
            self._protocol.fetch_histories,
            checked_trials(trials),  # in this thread: an iterator may call this protocol
            *names,
            since_step=since_step,
            since_row=since_row,
            max_points=max_points,
            section=section,
            attempts=attempts,
            latest=latest,
        )

    def outlines(self, uids: Sequence[str], *names: str) -> dict[str, dict[str, Outline]]:
        """Read the outlines of metrics: see `Reader.outlines`."""
        return self._run(self._protocol.outlines, uids, *names)

    @overload
    def fetch_bands(
        self, trials: Query | Iterable[Trial], name: str, *, by: None = None, **options: Unpack[BandOptions]
    ) -> MetricBands: ...

    @overload
    def fetch_bands(
        self, trials: Query | Iterable[Trial], name: str, *, by: str, **options: Unpack[BandOptions]
    ) -> dict[BandKey, MetricBands]: ...

    def fetch_bands(
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
        return self._run(
            self._protocol.fetch_bands,  # type: ignore[arg-type]  # one overload for each `by`
            trials if isinstance(trials, Mapping) else checked_trials(trials),  # in this thread, as for histories
            name,
            by=by,
            points=points,
            quantiles=quantiles,
            section=section,
            latest=latest,
        )
