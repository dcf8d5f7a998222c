"""The Protocol over Kafka and MongoDB: outbox and sender on the way in, reader on the way out."""

# ruff: noqa: D102 (the methods are described in protocol.py)

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
import random
import secrets
import time
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import anyio
from aiokafka.partitioner import murmur2
from trialstream_schemas.aggregators import Aggregator, Lazy, StatAggregator, timeseries_aggregator, value_aggregator
from trialstream_schemas.errors import (
    CommitTimeout,
    InvalidType,
    InvalidValue,
    ItemNotFound,
    KafkaUnavailable,
    MongoUnavailable,
    ProjectionBehind,
    ProtocolClosed,
    QueryError,
)
from trialstream_schemas.events import (
    MAX_EVENT_BYTES,
    ChronoStarted,
    GroupCreated,
    Heartbeat,
    ProjectCreated,
    SubjectEvent,
    TrialAttached,
    TrialCreated,
    TrialEvent,
    TrialFinished,
    TrialStarted,
)
from trialstream_schemas.structure import CustomStatus, Project, Status, Trial, TrialGroup
from trialstream_schemas.values import INT64_MAX, INT64_MIN, MAX_VALUE_BYTES, check_name, number, size

from trialstream import updates
from trialstream.chronos import Chronos, OpenChrono
from trialstream.config import Config
from trialstream.history import check_points, downsampled, histories
from trialstream.io_thread import IoThread
from trialstream.outbox import Full, Outbox, Route, Statistics
from trialstream.protocol import Callback, CommitLevel, MetricHistory, Protocol, Query, Sort, Step
from trialstream.query import GROUP_FIELDS, PROJECT_FIELDS, TRIAL_FIELDS, check_limit, sort_keys, translate
from trialstream.reader import Outcome, Reader
from trialstream.sender import Sender
from trialstream.topics import ensure_topics

__all__ = ["KafkaProtocol", "connect"]

log = logging.getLogger("trialstream")
T = TypeVar("T")

# A second's worth of metrics at 1,000,000 points/s, as Python objects.
_OUTBOX_BYTES = 64 * 1024 * 1024
# A frame gathers what comes within; longer would be seen as delay by who watches a run.
_LINGER_SECONDS = 0.05
# A trial whose last_seen is a few of these old is not running any more.
_HEARTBEAT_SECONDS = 10.0
# A chrono that runs longer is announced to the log, so that a run that hangs shows where.
_ANNOUNCE_SECONDS = 1.0
# How long a log call waits for room in a full outbox before its event is dropped and counted.
_ROOM_SECONDS = 5.0
# What is not sent when the protocol is left after so many seconds is reported and given up.
_CLOSE_SECONDS = 10.0
# Rows of so many different names are remembered as checked.
_KNOWN_NAMES = 10_000
# Claims look at so many candidates at once; with fewer than workers, losers would meet again on the next.
_CANDIDATES = 64


class KafkaProtocol(Protocol):
    """See `Protocol`; made by `connect`, and an async context manager.

    Leaving the block commits what was logged, within `timeout` seconds.

    Args:
        config: Where the servers are.
        timeout: Seconds that any wait takes at most: a commit, a read of own writes, a creation.
    """

    def __init__(self, config: Config, *, timeout: float = 30.0) -> None:
        self._config = config
        self._timeout = timeout
        self._writer = secrets.token_hex(8)
        self._state: Literal["new", "open", "closed"] = "new"
        self._pid = os.getpid()
        self._chronos = Chronos()
        # Uids that are known to exist, so that only the first call of each asks.
        self._trials: set[str] = set()
        self._groups: set[str] = set()
        self._projects: set[str] = set()
        # Started trials by uid: when, on the monotonic clock.
        self._started: dict[str, float] = {}
        # Whether this worker lost a race for a claim: from then on it takes candidates at random.
        self._contended = False
        self._warned: set[str] = set()
        # Names of rows that were checked.
        self._names: set[tuple[str, ...]] = set()

    @property
    def writer(self) -> str:
        """Id of this protocol and process, as it stands in `Trial.writers`."""
        return self._writer

    def statistics(self) -> Statistics:
        """What the outbox holds and has seen: events queued, bytes, events acknowledged and dropped."""
        self._check_open()
        return self._outbox.statistics()

    # --- Opening and closing

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise ProtocolClosed("a protocol can be entered once: make another with trialstream.connect()")
        self._io = IoThread(f"trialstream-{self._writer}")
        try:
            await self._io.call(self._open)
        except BaseException:
            self._io.stop()
            raise
        self._state = "open"
        return self

    async def _open(self) -> None:
        """In the I/O thread: connect, and start what runs all the time."""
        with anyio.move_on_after(self._timeout) as deadline:
            found = await ensure_topics(self._config)
        if deadline.cancelled_caught:
            raise KafkaUnavailable(
                f"Kafka at {self._config.kafka} did not answer in {self._timeout:g} s; start one with `trialstream up`, "
                "or set TRIALSTREAM_KAFKA"
            )
        self._partitions = found.partitions
        self._sender = Sender(self._config, self._io.loop)
        self._reader = Reader(self._config)
        self._outbox = Outbox(
            self._writer, self._route, self._sender.wake, max_bytes=_OUTBOX_BYTES, linger=_LINGER_SECONDS
        )
        self._io.submit(self._run)

    async def _run(self) -> None:
        """In the I/O thread, until the protocol is closed."""
        async with anyio.create_task_group() as tasks:
            self._running = tasks.cancel_scope
            for each in (self._beat, self._announce, self._reader.poll_outcomes):
                tasks.start_soon(each)
            await self._sender.run(self._outbox)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if self._state != "open":
            return
        self._state = "closed"
        try:
            with anyio.CancelScope(shield=True):  # a cancelled run still gets its last events out
                await self._io.call(self._close)
        except CommitTimeout as error:
            warnings.warn(f"trialstream: closed with events that were not sent: {error}", RuntimeWarning, stacklevel=2)
        finally:
            self._io.stop()

    async def _close(self) -> None:
        """In the I/O thread: send what is left, within a deadline, and let go of the connections."""
        try:
            await self._sender.flush(min(self._timeout, _CLOSE_SECONDS))
        finally:
            self._running.cancel()
            self._reader.close()

    def _check_open(self) -> None:
        if self._state != "open":
            raise ProtocolClosed(
                "the protocol is not open: use it inside `async with trialstream.connect() as protocol:`"
                if self._state == "new"
                else "the protocol is closed: log inside its `async with` block"
            )
        if self._pid != os.getpid():
            raise ProtocolClosed(
                "the protocol was opened in the parent process: call trialstream.connect() in this one"
            )

    async def _call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function in the I/O thread."""
        self._check_open()
        return await self._io.call(function, *args)

    def _route(self, event: SubjectEvent) -> Route:
        if isinstance(event, TrialEvent):
            # Kafka's own partitioner, so that any client finds the events of a trial by its hash.
            return Route(self._config.trials_topic, (murmur2(event.hash.encode()) & 0x7FFFFFFF) % self._partitions)
        return Route(self._config.registry_topic, 0)

    # --- In the background

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(_HEARTBEAT_SECONDS)
            for uid in list(self._started):
                self._put_or_skip(Heartbeat(trial=uid, writer=self._writer, time=updates.now()))

    async def _announce(self) -> None:
        def tell(chrono: OpenChrono) -> None:
            started = ChronoStarted(
                trial=chrono.trial,
                writer=self._writer,
                time=updates.now(),
                name=chrono.name,
                aggregator=chrono.aggregator,
            )
            self._outbox.put(started)

        while True:
            await anyio.sleep(_ANNOUNCE_SECONDS)
            try:
                self._chronos.announce(time.perf_counter() - _ANNOUNCE_SECONDS, tell)
            except Full:
                log.debug("no room to announce chronos")

    def _put_or_skip(self, event: SubjectEvent) -> None:
        try:
            self._outbox.put(event)
        except Full:
            log.debug("no room for %s", type(event).__name__)

    # --- Logging

    async def _put(self, event: SubjectEvent) -> None:
        try:
            self._outbox.put(event)
        except Full:
            await self._retry(event.subject, lambda: self._outbox.put(event))

    async def _retry(self, uid: str, add: Callable[[], None]) -> None:
        """Wait for room, at most so long; then drop the event, counted here and as a gap on the trial."""
        deadline = time.monotonic() + _ROOM_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            await self._call(self._room, left)
            try:
                return add()
            except Full:
                continue
        self._outbox.drop(uid)
        self._warn_once(
            "full",
            f"trialstream: Kafka at {self._config.kafka} takes no events and {_OUTBOX_BYTES >> 20} MiB wait: new "
            "events are dropped and counted in lost_events",
        )
        return None

    async def _room(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._sender.room()

    def _warn_once(self, about: str, message: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(message, RuntimeWarning, stacklevel=3)

    async def _known_trial(self, trial: Trial) -> str:
        """Uid of a trial that exists.

        Raises:
            InvalidType: it is no trial.
            ItemNotFound: it was never created.
        """
        self._check_open()
        if not isinstance(trial, Trial):
            raise InvalidType(f"trial: a Trial is needed, not {type(trial).__name__}")
        uid = trial.uid
        if uid not in self._trials:
            await self._require("trials", uid, f"trial {trial.name!r} ({uid}) was never created: call new_trial first")
            self._trials.add(uid)
        return uid

    async def _known_group(self, group: TrialGroup) -> str:
        self._check_open()
        if not isinstance(group, TrialGroup):
            raise InvalidType(f"group: a TrialGroup is needed, not {type(group).__name__}")
        await self._require_group(group.uid, group.name)
        return group.uid

    async def _require_group(self, uid: str, name: str) -> None:
        if uid not in self._groups:
            await self._require("groups", uid, f"group {name!r} was never created: call new_trial_group first")
            self._groups.add(uid)

    async def _require_project(self, uid: str) -> None:
        if uid not in self._projects:
            await self._require("projects", uid, f"project {uid!r} was never created: call new_project first")
            self._projects.add(uid)

    async def _require(self, collection: str, uid: str, message: str) -> None:
        try:
            exists = await self._call(self._reader.exists, collection, uid)
        except MongoUnavailable as error:
            # Logging does not hang on MongoDB: what belongs to no trial becomes a dead letter.
            self._warn_once("unchecked", f"trialstream: {uid} could not be looked up and is taken as existing: {error}")
            return
        if not exists:
            raise ItemNotFound(message)

    async def log_trial_start(self, trial: Trial) -> None:
        uid = await self._known_trial(trial)
        await self._put(updates.log_trial_start(self._writer, uid))
        self._started[uid] = time.perf_counter()

    async def log_trial_finish(
        self,
        trial: Trial,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        uid = await self._known_trial(trial)
        event = updates.log_trial_finish(self._writer, uid, exc_type, exc_val, exc_tb)
        self._stop_runtime(event)
        await self._put(event)

    def _stop_runtime(self, event: TrialFinished) -> None:
        started = self._started.pop(event.trial, None)
        event.elapsed = None if started is None else time.perf_counter() - started

    async def log_trial_chrono_start(
        self,
        trial: Trial,
        name: str,
        aggregator: Lazy = StatAggregator.lazy(1),  # noqa: B008 (a constant)
        start_callback: Callback | None = None,
        end_callback: Callback | None = None,
    ) -> None:
        uid = await self._known_trial(trial)
        check_name(name, "chrono")
        Lazy.check(aggregator, "aggregator")
        for path, callback in (("start_callback", start_callback), ("end_callback", end_callback)):
            if callback is not None and not callable(callback):
                raise InvalidType(f"{path}: something to call is needed, not {type(callback).__name__}")
        await _run_callback(start_callback)
        self._chronos.start(OpenChrono(uid, name, aggregator, end_callback))

    async def log_trial_chrono_finish(
        self,
        trial: Trial,
        name: str,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,  # noqa: ARG002 (part of the Protocol)
    ) -> None:
        uid = await self._known_trial(trial)
        chrono = self._chronos.finish(uid, name)
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
                self._outbox.add_chrono(
                    uid, name, time_us, elapsed, chrono.aggregator, announced=chrono.announced, failed=failed
                )

            try:
                add()
            except Full:
                await self._retry(uid, add)

    async def log_trial_arguments(self, trial: Trial, **kwargs: Any) -> None:
        uid = await self._known_trial(trial)
        await self._put(updates.log_trial_arguments(self._writer, uid, **kwargs))

    async def log_trial_metadata(self, trial: Trial, aggregator: Lazy = value_aggregator, **kwargs: Any) -> None:
        uid = await self._known_trial(trial)
        await self._put(updates.log_trial_metadata(self._writer, uid, aggregator, **kwargs))

    async def log_trial_metrics(
        self, trial: Trial, step: Step | None = None, aggregator: Lazy | None = None, **kwargs: Any
    ) -> None:
        uid = await self._known_trial(trial)
        step = _step(step)
        lazy = timeseries_aggregator if aggregator is None else Lazy.check(aggregator, "aggregator")
        if not kwargs:
            return
        names = tuple(kwargs)
        if names not in self._names:
            self._check_names(names)
        row = [x if type(x) is float else number(x, f"metric {name!r}") for name, x in kwargs.items()]
        time_us = time.time_ns() // 1000
        try:
            self._outbox.add_metrics(uid, step, time_us, names, row, lazy)
        except Full:
            await self._retry(uid, lambda: self._outbox.add_metrics(uid, step, time_us, names, row, lazy))

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
        uid = await self._known_trial(trial)
        await self._put(updates.set_trial_status(self._writer, uid, status, error))

    async def add_trial_tags(self, trial: Trial, **kwargs: Any) -> None:
        uid = await self._known_trial(trial)
        await self._put(updates.add_trial_tags(self._writer, uid, **kwargs))

    # --- Projects and groups

    async def get_project(self, project: Project) -> Project | None:
        if not isinstance(project, Project):
            raise InvalidType(f"project: a Project is needed, not {type(project).__name__}")
        await self._call(self._catch_up, self._timeout)
        found = await self._call(self._reader.projects, {"_id": project.uid})
        return found[0] if found else None

    async def new_project(self, project: Project) -> Project:
        self._check_open()
        if not isinstance(project, Project):
            raise InvalidType(f"project: a Project is needed, not {type(project).__name__}")
        project = replace(project)  # checks it again: its dicts may have been changed since it was made
        event = ProjectCreated(
            project=project.uid,
            writer=self._writer,
            time=updates.now(),
            name=project.name,
            description=project.description,
            metadata=project.metadata,
            tags=project.tags,
        )
        _check_size("Project", event.metadata, event.tags)
        await self._decide(event)
        self._projects.add(project.uid)
        [created] = await self._call(self._reader.projects, {"_id": project.uid})
        return created

    async def get_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        if not isinstance(group, TrialGroup):
            raise InvalidType(f"group: a TrialGroup is needed, not {type(group).__name__}")
        await self._call(self._catch_up, self._timeout)
        found = await self._call(self._reader.groups, {"_id": group.uid})
        return found[0] if found else None

    async def new_trial_group(self, group: TrialGroup) -> TrialGroup | None:
        self._check_open()
        if not isinstance(group, TrialGroup):
            raise InvalidType(f"group: a TrialGroup is needed, not {type(group).__name__}")
        group = replace(group)
        event = GroupCreated(
            group=group.uid,
            writer=self._writer,
            time=updates.now(),
            name=group.name,
            project_id=group.project_id,
            description=group.description,
            metadata=group.metadata,
            tags=group.tags,
        )
        _check_size("TrialGroup", event.metadata, event.tags)
        outcome = await self._decide(event)
        self._groups.add(group.uid)
        if not outcome["applied"]:
            return None
        [created] = await self._call(self._reader.groups, {"_id": group.uid})
        return created

    async def add_project_trial(self, project: Project, trial: Trial) -> None:
        self._check_open()
        if not isinstance(project, Project):
            raise InvalidType(f"project: a Project is needed, not {type(project).__name__}")
        uid = await self._known_trial(trial)
        await self._require_project(project.uid)
        await self._put(TrialAttached(trial=uid, writer=self._writer, time=updates.now(), project_id=project.uid))

    async def add_group_trial(self, group: TrialGroup, trial: Trial) -> None:
        group_id = await self._known_group(group)
        uid = await self._known_trial(trial)
        await self._put(TrialAttached(trial=uid, writer=self._writer, time=updates.now(), group_id=group_id))

    async def set_group_metadata(self, group: TrialGroup, **kwargs: Any) -> None:
        uid = await self._known_group(group)
        await self._put(updates.set_group_metadata(self._writer, uid, **kwargs))

    # --- Creating and claiming

    async def get_trial(self, trial: Trial) -> list[Trial]:
        if not isinstance(trial, Trial):
            raise InvalidType(f"trial: a Trial is needed, not {type(trial).__name__}")
        return await self._trials_where({"hash": _definition(trial).hash}, [("revision", 1)])

    async def new_trial(self, trial: Trial, auto_increment: bool = False) -> Trial | None:
        self._check_open()
        if not isinstance(trial, Trial):
            raise InvalidType(f"trial: a Trial is needed, not {type(trial).__name__}")
        trial = _definition(trial)
        if trial.project_id is not None:
            await self._require_project(trial.project_id)
        if trial.group_id is not None:
            await self._require_group(trial.group_id, trial.group_id)
        event = TrialCreated(
            trial=trial.hash,
            writer=self._writer,
            time=updates.now(),
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
        _check_size("Trial", event.parameters, event.metadata, event.tags)
        outcome = await self._decide(event)
        if outcome["uid"] is None:
            return None
        [created] = await self._call(self._reader.trials, {"_id": outcome["uid"]})
        self._trials.add(created.uid)
        return created

    async def fetch_and_update_trial(self, query: Query, attr: str, *args: Any, **kwargs: Any) -> Trial:
        event = _claim(updates.TRIAL_UPDATES, attr, self._writer, args, kwargs)
        uid, won = await self._fetch_and_update("trials", translate(query, TRIAL_FIELDS), event, "trial")
        self._trials.add(uid)
        if isinstance(won, TrialStarted):
            self._started[uid] = time.perf_counter()
        elif isinstance(won, TrialFinished):
            self._started.pop(uid, None)
        [trial] = await self._call(self._reader.trials, {"_id": uid})
        return trial

    async def fetch_and_update_group(self, query: Query, attr: str, *args: Any, **kwargs: Any) -> TrialGroup:
        event = _claim(updates.GROUP_UPDATES, attr, self._writer, args, kwargs)
        uid, _ = await self._fetch_and_update("groups", translate(query, GROUP_FIELDS), event, "group")
        self._groups.add(uid)
        [group] = await self._call(self._reader.groups, {"_id": uid})
        return group

    async def _fetch_and_update(
        self, collection: str, filter_: Query, event: SubjectEvent, subject: str
    ) -> tuple[str, SubjectEvent]:
        """Claim one of the collection that matches; return its uid and the event that won it."""
        await self._call(self._catch_up, self._timeout)
        while candidates := await self._call(self._reader.versions, collection, filter_, _CANDIDATES):
            # The oldest first, until others are after the same ones.
            uid, version = random.choice(candidates) if self._contended else candidates[0]  # noqa: S311 (no secret)
            changes: dict[str, Any] = {subject: uid, "if_version": version, "time": updates.now()}
            if isinstance(event, TrialFinished) and uid in self._started:
                changes["elapsed"] = time.perf_counter() - self._started[uid]
            attempt = replace(event, **changes)
            outcome = await self._decide(attempt)
            if outcome["applied"]:
                return uid, attempt
            self._contended = True
        raise ItemNotFound(f"no {subject} matches the query")

    async def _decide(self, event: SubjectEvent) -> Outcome:
        """Send a request and return what the fold decided.

        Raises:
            ItemNotFound, InvalidValue: it refused.
            CommitTimeout: Kafka has not acknowledged the event in time.
            ProjectionBehind: the consumer has not folded it in time.
        """
        event.request = secrets.token_hex(12)
        if isinstance(event, TrialCreated):
            event.trial = f"{event.hash}~{event.request}"
        deadline = time.monotonic() + self._timeout
        waiting = self._io.submit(self._reader.outcome, event.request, self._timeout)
        try:
            await self._put(event)
            outcome = await asyncio.wrap_future(waiting)
        finally:
            waiting.cancel()
        if outcome is None:
            await self._call(self._catch_up, max(0.0, deadline - time.monotonic()))
            raise ProjectionBehind(
                f"no consumer has decided a {type(event).__name__} in {self._timeout:g} s; its event lies in Kafka"
            )
        if outcome["reason"] is not None:
            raise (ItemNotFound if outcome["uid"] is None else InvalidValue)(outcome["reason"])
        return outcome

    # --- Reading

    async def fetch_trials(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[Trial]:
        found = await self._trials_where(
            translate(query, TRIAL_FIELDS), sort_keys(sort, TRIAL_FIELDS), check_limit(limit)
        )
        self._trials.update(each.uid for each in found)
        return found

    async def fetch_groups(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[TrialGroup]:
        asked = translate(query, GROUP_FIELDS), sort_keys(sort, GROUP_FIELDS), check_limit(limit)
        await self._call(self._catch_up, self._timeout)
        found = await self._call(self._reader.groups, *asked)
        self._groups.update(each.uid for each in found)
        return found

    async def fetch_projects(self, query: Query, *, sort: Sort = None, limit: int | None = None) -> list[Project]:
        asked = translate(query, PROJECT_FIELDS), sort_keys(sort, PROJECT_FIELDS), check_limit(limit)
        await self._call(self._catch_up, self._timeout)
        found = await self._call(self._reader.projects, *asked)
        self._projects.update(each.uid for each in found)
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
        uid = await self._known_trial(trial)
        await self._call(self._catch_up, self._timeout)
        found = histories(await self._call(self._reader.buckets, uid, section, names), since_step)
        if missing := set(names) - found.keys():
            raise ItemNotFound(f"trial {uid} has no history of {section} {', '.join(sorted(missing))}")
        if max_points is not None:
            found = {name: downsampled(each, max_points) for name, each in found.items()}
        return found

    async def _trials_where(self, filter_: Query, sort: list[tuple[str, int]], limit: int = 0) -> list[Trial]:
        await self._call(self._catch_up, self._timeout)
        return await self._call(self._reader.trials, filter_, sort, limit)

    # --- Waiting

    async def commit(self, level: CommitLevel = "acked", timeout: float | None = None, **_: Any) -> None:
        seconds = self._timeout if timeout is None else number(timeout, "timeout")
        match level:
            case "acked":
                await self._call(self._sender.flush, seconds)
            case "folded":
                await self._call(self._catch_up, seconds)
            case _:
                raise InvalidValue(f"level: 'acked' or 'folded', not {level!r}")

    async def _catch_up(self, timeout: float) -> None:
        """In the I/O thread: return when the projection shows all that was logged before the call."""
        deadline = time.monotonic() + timeout
        await self._sender.flush(timeout)
        await self._reader.folded(self._sender.offsets, max(0.0, deadline - time.monotonic()))


def connect(
    *,
    kafka: str | None = None,
    mongo: str | None = None,
    prefix: str | None = None,
    timeout: float = 30.0,
    **settings: Any,
) -> KafkaProtocol:
    """A protocol, to be entered: `async with trialstream.connect() as protocol:`.

    Args:
        kafka: Bootstrap servers; `TRIALSTREAM_KAFKA` if not given.
        mongo: MongoDB URI; `TRIALSTREAM_MONGO` if not given.
        prefix: Names the topics and the database; `TRIALSTREAM_PREFIX` if not given.
        timeout: Seconds that any wait takes at most.
        **settings: Further fields of `Config`, such as `kafka_security_protocol`.

    Raises:
        ConfigError: a setting makes no sense; the message names it.
    """
    return KafkaProtocol(Config.from_env(kafka=kafka, mongo=mongo, prefix=prefix, **settings), timeout=timeout)


def _definition(trial: Trial) -> Trial:
    """What a trial was defined as: one that came from the log keeps its hash, one that did not is checked again."""
    return trial if trial.created is not None else replace(trial, hash="", revision=0)


def _check_size(what: str, *parts: dict[str, Any]) -> None:
    total = sum(map(size, parts))
    if total > MAX_EVENT_BYTES:
        raise InvalidValue(f"{what}: its values take {total} bytes, {MAX_EVENT_BYTES} at most")


def _claim(
    known: dict[str, updates.Update], attr: str, writer: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> SubjectEvent:
    """The update that a claim applies, checked before any candidate is looked for."""
    if attr not in known:
        raise QueryError(f"attr: {attr!r} cannot claim; one of {', '.join(sorted(known))} can")
    return known[attr](writer, "", *args, **kwargs)


def _step(step: Any, path: str = "step") -> Step | None:
    """A step in its plain form: int, finite float, str or None."""
    if step is None or (type(step) is int and INT64_MIN <= step <= INT64_MAX):
        return step
    if isinstance(step, str):
        return check_name(step, path)
    item = getattr(step, "item", None)
    if not isinstance(step, (int, float)) and callable(item):
        step = item()
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
