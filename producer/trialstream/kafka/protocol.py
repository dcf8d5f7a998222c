"""The Protocol over Kafka and MongoDB."""

# ruff: noqa: D102 (the methods are described in protocol.py)

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from trialstream_schemas.errors import (
    CommitTimeout,
    InvalidType,
    InvalidValue,
    ItemNotFound,
    MongoUnavailable,
    ProjectionBehind,
    QueryError,
)
from trialstream_schemas.model.aggregators import (
    Aggregator,
    AggregatorSpec,
    StatAggregator,
    timeseries_aggregator,
    value_aggregator,
)
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import from_micros, to_micros
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import INT64_MAX, INT64_MIN, MAX_VALUE_BYTES, check_name, number, size
from trialstream_schemas.wire.events import (
    GroupCreated,
    ProjectCreated,
    SubjectEvent,
    TrialAttached,
    TrialCreated,
    TrialFinished,
    TrialStarted,
)
from trialstream_schemas.wire.limits import MAX_EVENT_BYTES

from trialstream.config import Config
from trialstream.kafka import commands as updates
from trialstream.kafka.chronos import OpenChrono
from trialstream.kafka.session import Session, new_request
from trialstream.pipeline.outbox import OutboxFull
from trialstream.pipeline.statistics import Statistics
from trialstream.protocol import Callback, CommitLevel, MetricHistory, Protocol, Query, Sort, Step
from trialstream.reading.history import check_points, downsampled, histories
from trialstream.reading.query import GROUP_FIELDS, PROJECT_FIELDS, TRIAL_FIELDS, check_limit, sort_keys, translate
from trialstream.reading.reader import Outcome, Reader

__all__ = ["KafkaProtocol"]

T = TypeVar("T")

# A loop of nothing but metrics calls lets other tasks, and Ctrl-C, in so often, at the next row that opens a frame. No
# other log call does: the end of a trial is logged in one go, also by a task that is being cancelled.
_YIELD_SECONDS = 0.05
# Rows of so many different names are remembered as checked.
_KNOWN_NAMES = 10_000


class KafkaProtocol(Protocol):
    """See `Protocol`; made by `connect`, and an async context manager.

    Leaving the block commits what was logged, within a deadline.

    Args:
        config: Where the servers are.
        timeout: Seconds that any wait takes at most: a commit, a read of own writes, a creation.
    """

    def __init__(self, config: Config, *, timeout: float = 30.0) -> None:
        self._session = Session(config, timeout)
        # When the next metrics call lets others run.
        self._yield_at = 0.0
        # Names of rows that were checked.
        self._names: set[tuple[str, ...]] = set()
        # `Outbox.add_row`, once there is an outbox.
        self._add_row: Callable[[Trial, Step | None, AggregatorSpec | None, dict[str, Any]], bool] = lambda *_: False

    @property
    def writer(self) -> str:
        """Id of this protocol and process, as it stands in `Trial.writers`."""
        return self._session.writer

    def statistics(self) -> Statistics:
        """What the outbox holds and has seen: events queued, bytes, events acknowledged and dropped."""
        self._session.check_open()
        return self._session.outbox.statistics()

    async def __aenter__(self) -> Self:
        await self._session.open()
        self._add_row = self._session.outbox.add_row
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self._session.close(failed=exc_type is not None)

    async def _uid(self, trial: Trial) -> str:
        """Uid of a trial that exists."""
        uid = _checked(trial, Trial, "trial").uid
        if not self._session.knows("trials", uid):  # asked first: this is the way of every log call
            if trial.request is not None:  # whoever logs to it brings the creation along: the log takes the first
                await self._session.put(_creation(trial, self._session.writer, trial.request, auto_increment=True))
                self._session.known("trials", uid)
            else:
                message = f"trial {trial.name!r} ({uid}) was never created: call new_trial first"
                await self._session.require("trials", uid, message, made=trial.created is not None)
        return uid

    async def _group_uid(self, group: TrialGroup) -> str:
        """Uid of a group that exists."""
        uid = _checked(group, TrialGroup, "group").uid
        await self._require_group(uid, group.name, made=group.created is not None)
        return uid

    async def _require_group(self, uid: str, name: str, *, made: bool = True) -> None:
        message = f"group {name!r} was never created: call new_trial_group first"
        await self._session.require("groups", uid, message, made=made)

    async def _require_project(self, uid: str) -> None:
        await self._session.require("projects", uid, f"project {uid!r} was never created: call new_project first")

    # --- Logging

    async def log_trial_start(self, trial: Trial) -> None:
        uid = await self._uid(trial)
        await self._session.put(updates.log_trial_start(self._session.writer, uid))
        self._session.started[uid] = time.perf_counter()

    async def log_trial_finish(
        self,
        trial: Trial,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        uid = await self._uid(trial)
        event = updates.log_trial_finish(self._session.writer, uid, exc_type, exc_val, exc_tb)
        self._stop_runtime(event)
        await self._session.put(event)

    def _stop_runtime(self, event: TrialFinished) -> None:
        started = self._session.started.pop(event.trial, None)
        event.elapsed = None if started is None else time.perf_counter() - started

    async def log_trial_chrono_start(
        self,
        trial: Trial,
        name: str,
        aggregator: AggregatorSpec = StatAggregator.lazy(1),  # noqa: B008 (a constant)
        start_callback: Callback | None = None,
        end_callback: Callback | None = None,
    ) -> None:
        uid = await self._uid(trial)
        check_name(name, "chrono")
        AggregatorSpec.check(aggregator, "aggregator")
        for path, callback in (("start_callback", start_callback), ("end_callback", end_callback)):
            if callback is not None and not callable(callback):
                raise InvalidType(f"{path}: something to call is needed, not {type(callback).__name__}")
        await _run_callback(start_callback)
        self._session.chronos.start(OpenChrono(uid, name, aggregator, end_callback))

    async def log_trial_chrono_finish(
        self,
        trial: Trial,
        name: str,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,  # noqa: ARG002 (part of the Protocol)
    ) -> None:
        uid = await self._uid(trial)
        chrono = self._session.chronos.finish(uid, name)
        failed = exc_type is not None or exc_val is not None
        try:
            await _run_callback(chrono.end_callback)
        except BaseException:
            failed = True
            raise
        finally:
            elapsed = time.perf_counter() - chrono.started
            time_us = updates.now()

            def add() -> None:
                self._session.outbox.add_chrono(
                    uid, name, time_us, elapsed, chrono.aggregator, announced=chrono.announced, failed=failed
                )

            try:
                add()
            except OutboxFull:
                await self._session.put_later(uid, add)

    async def log_trial_arguments(self, /, trial: Trial, **kwargs: Any) -> None:
        uid = await self._uid(trial)
        await self._session.put(updates.log_trial_arguments(self._session.writer, uid, **kwargs))

    async def log_trial_metadata(
        self, /, trial: Trial, aggregator: AggregatorSpec = value_aggregator, **kwargs: Any
    ) -> None:
        uid = await self._uid(trial)
        await self._session.put(updates.log_trial_metadata(self._session.writer, uid, aggregator, **kwargs))

    async def log_trial_metrics(
        self, /, trial: Trial, step: Step | None = None, aggregator: AggregatorSpec | None = None, **kwargs: Any
    ) -> None:
        if self._add_row(trial, step, aggregator, kwargs):
            return
        if (now := time.monotonic()) >= self._yield_at:
            self._yield_at = now + _YIELD_SECONDS
            await asyncio.sleep(0)
        uid = await self._uid(trial)
        add = self._row(trial, uid, step, aggregator, kwargs)
        try:
            add()
        except OutboxFull:
            await self._session.put_later(uid, add)

    def log_trial_metrics_nowait(
        self, trial: Trial, step: Step | None, aggregator: AggregatorSpec | None, values: dict[str, Any]
    ) -> bool:
        return self._add_row(trial, step, aggregator, values)

    def _row(
        self, trial: Trial, uid: str, step: Step | None, aggregator: AggregatorSpec | None, values: dict[str, Any]
    ) -> Callable[[], None]:
        """What appends a row, which is checked here, to the outbox; it may be called until it has."""
        plain = _step(step)
        lazy = timeseries_aggregator if aggregator is None else AggregatorSpec.check(aggregator, "aggregator")
        if not values:
            return lambda: None
        names = tuple(values)
        if names not in self._names:
            self._check_names(names)
        row = [x if type(x) is float else number(x, f"metric {name!r}") for name, x in values.items()]
        now = time.time_ns()
        owner = trial, aggregator
        return lambda: self._session.outbox.add_metrics(uid, plain, now, names, row, lazy, owner)

    def _check_names(self, names: tuple[str, ...]) -> None:
        """Check the names of a row, once."""
        total = sum(len(check_name(each, "metric").encode()) + 8 for each in names)
        if total > MAX_VALUE_BYTES:
            raise InvalidValue(f"metrics: {len(names)} of them take {total} bytes, one call {MAX_VALUE_BYTES} at most")
        if len(self._names) >= _KNOWN_NAMES:
            self._names.clear()
        self._names.add(names)

    async def set_trial_status(
        self, trial: Trial, status: Status | CustomStatus, error: str | BaseException | None = None
    ) -> None:
        uid = await self._uid(trial)
        await self._session.put(updates.set_trial_status(self._session.writer, uid, status, error))

    async def add_trial_tags(self, /, trial: Trial, **kwargs: Any) -> None:
        uid = await self._uid(trial)
        await self._session.put(updates.add_trial_tags(self._session.writer, uid, **kwargs))

    # --- Projects and groups

    async def get_project(self, project: Project) -> Project | None:
        _checked(project, Project, "project")
        found = await self._session.read(Reader.projects, {"_id": project.uid})
        return found[0] if found else None

    async def new_project(self, project: Project) -> Project:
        _checked(project, Project, "project")
        project = replace(project)  # checks it again: its dicts may have been changed since it was made
        event = ProjectCreated(
            project=project.uid,
            writer=self._session.writer,
            time=updates.now(),
            request=new_request(),
            name=project.name,
            description=project.description,
            metadata=project.metadata,
            tags=project.tags,
        )
        _check_size("Project", event.metadata, event.tags)
        if not self._session.connected:
            await self._session.put(event)
            self._session.known("projects", project.uid)
            return replace(project, created=from_micros(event.time))
        await self._session.decide(event)
        self._session.known("projects", project.uid)
        [created] = await self._session.call(self._session.reader.projects, {"_id": project.uid})
        return created

    async def get_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        _checked(group, TrialGroup, "group")
        found = await self._session.read(Reader.groups, {"_id": group.uid})
        return found[0] if found else None

    async def new_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        _checked(group, TrialGroup, "group")
        group = replace(group)
        event = GroupCreated(
            group=group.uid,
            writer=self._session.writer,
            time=updates.now(),
            request=new_request(),
            name=group.name,
            project_id=group.project_id,
            description=group.description,
            metadata=group.metadata,
            tags=group.tags,
        )
        _check_size("TrialGroup", event.metadata, event.tags)
        if not self._session.connected:
            await self._session.put(event)
            self._session.known("groups", group.uid)
            return replace(group, created=from_micros(event.time))
        outcome = await self._session.decide(event)
        self._session.known("groups", group.uid)
        if not outcome.applied:
            return None
        [created] = await self._session.call(self._session.reader.groups, {"_id": group.uid})
        return created

    async def add_project_trial(self, project: Project, trial: Trial) -> None:
        _checked(project, Project, "project")
        uid = await self._uid(trial)
        await self._require_project(project.uid)
        await self._session.put(
            TrialAttached(trial=uid, writer=self._session.writer, time=updates.now(), project_id=project.uid)
        )

    async def add_group_trial(self, group: TrialGroup, trial: Trial) -> None:
        group_id = await self._group_uid(group)
        uid = await self._uid(trial)
        await self._session.put(
            TrialAttached(trial=uid, writer=self._session.writer, time=updates.now(), group_id=group_id)
        )

    async def set_group_metadata(self, /, group: TrialGroup, **kwargs: Any) -> None:
        uid = await self._group_uid(group)
        await self._session.put(updates.set_group_metadata(self._session.writer, uid, **kwargs))

    # --- Creating and claiming

    async def get_trial(self, trial: Trial) -> list[Trial]:
        _checked(trial, Trial, "trial")
        return await self._trials_where({"hash": _definition(trial).hash}, [("revision", 1)])

    async def new_trial(self, trial: Trial, auto_increment: bool = False) -> Trial | None:
        _checked(trial, Trial, "trial")
        trial = _definition(trial)
        if trial.project_id is not None:
            await self._require_project(trial.project_id)
        if trial.group_id is not None:
            await self._require_group(trial.group_id, trial.group_id)
        event = _creation(trial, self._session.writer, new_request(), auto_increment=auto_increment)
        _check_size("Trial", event.parameters, event.metadata, event.tags)
        if not self._session.connected:
            event.auto_increment = True
            await self._session.put(event)
            return self._undecided(trial, event)
        try:
            outcome = await self._session.decide(event)
        except (CommitTimeout, ProjectionBehind, MongoUnavailable) as error:
            if not auto_increment:  # whether there is one already is what nobody can tell
                raise
            self._session.warn_once(f"trialstream: the trial goes on without its revision, which comes later: {error}")
            return self._undecided(trial, event)
        return None if outcome.uid is None else await self._trial_of(outcome)

    async def _trial_of(self, outcome: Outcome) -> Trial:
        """The trial that a command of ours was applied to."""
        trial = outcome.trial
        if trial is None:  # the projection was being dropped: the live one has it
            [trial] = await self._session.call(self._session.reader.trials, {"_id": outcome.uid})
        self._session.known("trials", trial.uid)
        return trial

    def _undecided(self, trial: Trial, event: TrialCreated) -> Trial:
        """The trial of a creation that the log has not decided: it is addressed by its request."""
        created = from_micros(event.time)
        addressed = replace(trial, request=event.request, created=created, last_seen=created)
        self._session.known("trials", addressed.uid)
        return addressed

    async def fetch_and_update_trial(self, query: Query, attr: str, *args: Any, **kwargs: Any) -> Trial:
        event = _claim(updates.TRIAL_UPDATES, attr, self._session.writer, args, kwargs)
        outcome = await self._fetch_and_update("trials", translate(query, TRIAL_FIELDS), event, "trial")
        trial = await self._trial_of(outcome)
        if isinstance(event, TrialStarted):
            self._session.started[trial.uid] = time.perf_counter()
        elif isinstance(event, TrialFinished):
            self._session.started.pop(trial.uid, None)
        return trial

    async def fetch_and_update_group(self, query: Query, attr: str, *args: Any, **kwargs: Any) -> TrialGroup:
        event = _claim(updates.GROUP_UPDATES, attr, self._session.writer, args, kwargs)
        outcome = await self._fetch_and_update("groups", translate(query, GROUP_FIELDS), event, "group")
        [group] = await self._session.call(self._session.reader.groups, {"_id": outcome.uid})
        self._session.known("groups", group.uid)
        return group

    async def _fetch_and_update(self, collection: str, filter_: Query, event: SubjectEvent, subject: str) -> Outcome:
        """Claim one of the collection that matches."""
        started = self._session.started
        while candidate := await self._session.take(collection, filter_):
            uid, version = candidate
            changes: dict[str, Any] = {subject: uid, "if_version": version, "time": updates.now()}
            if isinstance(event, TrialFinished) and uid in started:
                changes["elapsed"] = time.perf_counter() - started[uid]
            lost = False
            try:
                outcome = await self._session.decide(replace(event, **changes))
                if outcome.applied:
                    return outcome
                lost = True
            finally:
                self._session.back(candidate, lost=lost)
        raise ItemNotFound(f"no {subject} matches the query")

    # --- Reading

    async def fetch_trials(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[Trial]:
        found = await self._trials_where(
            translate(query, TRIAL_FIELDS), sort_keys(sort, TRIAL_FIELDS), check_limit(limit)
        )
        self._session.known("trials", *(each.uid for each in found))
        return found

    async def fetch_groups(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[TrialGroup]:
        asked = translate(query, GROUP_FIELDS), sort_keys(sort, GROUP_FIELDS), check_limit(limit)
        found = await self._session.read(Reader.groups, *asked)
        self._session.known("groups", *(each.uid for each in found))
        return found

    async def fetch_projects(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[Project]:
        asked = translate(query, PROJECT_FIELDS), sort_keys(sort, PROJECT_FIELDS), check_limit(limit)
        found = await self._session.read(Reader.projects, *asked)
        self._session.known("projects", *(each.uid for each in found))
        return found

    async def fetch_metrics(
        self,
        trial: Trial,
        *names: str,
        since_step: Step | None = None,
        max_points: int | None = None,
        section: Literal["metrics", "chronos", "metadata"] = "metrics",
    ) -> dict[str, MetricHistory]:
        since_step = _step(since_step, "since_step")
        check_points(max_points)
        for name in names:
            check_name(name, "metric")
        if section not in ("metrics", "chronos", "metadata"):
            raise InvalidValue(f"section: metrics, chronos or metadata, not {section!r}")
        uid = await self._uid(trial)
        if trial.request is not None:
            uid = await self._decided(trial.request)
        found = histories(await self._session.read(Reader.buckets, uid, section, names), since_step)
        if missing := set(names) - found.keys():
            raise ItemNotFound(f"trial {uid} has no history of {section} {', '.join(sorted(missing))}")
        if max_points is not None:
            found = {name: downsampled(each, max_points) for name, each in found.items()}
        return found

    async def _decided(self, request: str) -> str:
        """Uid of the trial that a request has created."""
        outcome = await self._session.read(Reader.outcome, request, self._session.timeout)
        if outcome is None or outcome.uid is None:
            raise ItemNotFound(f"the log has not decided on the creation {request} yet: it may wait in a spool")
        return outcome.uid

    async def _trials_where(self, filter_: Query, sort: list[tuple[str, int]], limit: int = 0) -> list[Trial]:
        return await self._session.read(Reader.trials, filter_, sort, limit)

    # --- Waiting

    async def commit(self, level: CommitLevel = "acked", timeout: float | None = None, **_: Any) -> None:
        seconds = self._session.timeout if timeout is None else number(timeout, "timeout")
        waits = {"acked": self._session.flush, "folded": self._session.catch_up, "spooled": self._session.secure}
        if level not in waits:
            raise InvalidValue(f"level: {', '.join(map(repr, waits))}, not {level!r}")
        self._session.check_open()
        await self._session.call(self._session.secure if self._session.offline else waits[level], seconds)


def _checked(given: T, kind: type[T], path: str) -> T:
    if not isinstance(given, kind):
        raise InvalidType(f"{path}: a {kind.__name__} is needed, not {type(given).__name__}")
    return given


def _definition(trial: Trial) -> Trial:
    """What a trial was defined as: one that came from the log keeps its hash, one that did not is checked again."""
    return trial if trial.created is not None else replace(trial, hash="", revision=0)


def _creation(trial: Trial, writer: str, request: str, *, auto_increment: bool) -> TrialCreated:
    """The event that creates a trial, the same for whoever sends it."""
    return TrialCreated(
        trial=f"{trial.hash}~{request}",
        writer=writer,
        time=updates.now() if trial.request is None or trial.created is None else to_micros(trial.created),
        request=request,
        name=trial.name,
        version=trial.version,
        description=trial.description,
        parameters=trial.parameters,
        project_id=trial.project_id,
        group_id=trial.group_id,
        # What was accumulated by an earlier revision is not this one's.
        metadata={key: each for key, each in trial.metadata.items() if not isinstance(each, Aggregator)},
        tags=trial.tags,
        auto_increment=bool(auto_increment),
    )


def _check_size(what: str, *parts: dict[str, Any]) -> None:
    total = sum(map(size, parts))
    if total > MAX_EVENT_BYTES:
        raise InvalidValue(f"{what}: its values take {total} bytes, {MAX_EVENT_BYTES} at most")


def _claim(
    known: dict[str, updates.Update], attr: str, writer: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> SubjectEvent:
    """The update that a claim applies, checked before any candidate is looked for."""
    if not isinstance(attr, str) or attr not in known:
        raise QueryError(f"attr: {attr!r} cannot claim; one of {', '.join(sorted(known))} can")
    try:
        inspect.signature(getattr(Protocol, attr)).bind(None, None, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{attr}: {error}") from None
    return known[attr](writer, "", *args, **kwargs)


def _step(step: Any, path: str = "step") -> Step | None:
    """A step in its plain form: int, finite float, str or None."""
    if step is None or (type(step) is int and INT64_MIN <= step <= INT64_MAX):
        return step
    if isinstance(step, str):
        return check_name(step, path)
    item = getattr(step, "item", None)
    if not isinstance(step, (int, float)) and callable(item):
        try:
            step = item()
        except Exception as error:
            raise InvalidType(f"{path}: item() of {type(step).__qualname__} failed: {error}") from error
    if isinstance(step, bool) or not isinstance(step, (int, float)):
        raise InvalidType(f"{path}: an int, a float, a str or None is needed, not {type(step).__name__}")
    if isinstance(step, int):
        if not INT64_MIN <= step <= INT64_MAX:
            raise InvalidValue(f"{path}: the integer does not fit 64 bits")
        return int(step)
    if not math.isfinite(step):
        raise InvalidValue(f"{path}: {step} is no step")
    return float(step)


async def _run_callback(callback: Callback | None) -> None:
    if callback is not None:
        result = callback()
        if inspect.isawaitable(result):
            await result
