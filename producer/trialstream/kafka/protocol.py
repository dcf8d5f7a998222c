"""The Protocol over Kafka and MongoDB."""

# ruff: noqa: D102 (the methods are described in trialstream/protocol.py)

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

from trialstream_schemas.errors import (
    CommitTimeout,
    ConfigError,
    InvalidValue,
    MongoUnavailable,
    ProjectionBehind,
    SpoolError,
)
from trialstream_schemas.model.aggregators import AggregatorSpec, value_aggregator
from trialstream_schemas.model.attempts import Attempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import number
from trialstream_schemas.wire.events import SubjectEvent, TrialCreated, TrialFinished, TrialStarted, updates_of

from trialstream.arguments import resolve
from trialstream.config import Config, check_timeout
from trialstream.kafka import commands, creations
from trialstream.kafka.claim_events import claim_event
from trialstream.kafka.log_calls import CHRONO_AGGREGATOR, LogCalls
from trialstream.kafka.rows import RowChecks
from trialstream.kafka.servers import KafkaAndMongo
from trialstream.kafka.session import Session
from trialstream.protocol import Callback, CommitLevel, Query, Step
from trialstream.reading.checks import checked, decided_uid
from trialstream.reading.protocol import ReadingProtocol
from trialstream.reading.reader import Decision
from trialstream.reading.uri import driver_options
from trialstream.spool.checks import check_writable
from trialstream.statistics import Statistics

__all__ = ["KafkaProtocol", "LoggingProtocol"]

# Interval at which a loop of nothing but metrics calls yields, so that other tasks and Ctrl-C can run: the first row
# after this time that needs all checks yields, and one needs them after each look of the I/O thread into the inbox. No
# other log call yields, so that a task that is being cancelled can log the end of its trial without interruption.
_YIELD_SECONDS = 0.05


class LoggingProtocol(ReadingProtocol):
    """The Protocol over a log and its projection, whichever servers these are; an async context manager.

    Leaving the block sends all events that were logged, within a deadline.

    Args:
        session: The connection.
    """

    _session: Session

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        # When the next metrics call yields to other tasks (monotonic clock).
        self._yield_at = 0.0
        self._row_checks = RowChecks(self._session.lifecycle.warn_once)
        self.log = LogCalls(self._session, self._row_checks)

    async def open(self) -> None:
        await self._session.lifecycle.open()

    async def close(self, *, failed: bool = False) -> None:
        await self._session.lifecycle.close(failed=failed)

    @property
    def writer(self) -> str:
        return self._session.writer

    def statistics(self) -> Statistics:
        self._session.lifecycle.check_open()
        return self._session.outbox.statistics()

    async def _existing_uid(self, trial: Trial) -> str:
        """Return the uid of a trial that exists."""
        session = self._session
        session.lifecycle.check_open()
        uid = checked(trial, Trial, "trial").uid
        if not session.subjects.has("trials", uid):
            await session.require_trial(trial)
        return uid

    async def _put(self, event: SubjectEvent) -> None:
        if rest := self._session.put(event):
            await rest()

    async def _history_uid(self, trial: Trial) -> str:
        uid, request = await self._existing_uid(trial), trial.request
        return uid if request is None else await self.created_uid(uid)

    async def created_uid(self, address: str) -> str:
        """Read the uid of the trial that a request has created.

        Args:
            address: Uid of the trial before its revision was decided: `<hash>~<request>`.

        Returns:
            The uid, with the revision that the log has decided.

        Raises:
            ItemNotFound: The request is not decided yet, or it was refused.
        """
        session = self._session
        decision = await session.read(lambda: session.reader.decision(address, session.timeout))
        return decided_uid(address, decision and decision.outcome)

    # --- Logging

    async def log_trial_start(self, trial: Trial, *, attempt: Attempt | None = None) -> None:
        if rest := self.log.log_trial_start(trial, attempt=attempt):
            await rest()

    async def log_trial_finish(
        self,
        trial: Trial,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        if rest := self.log.log_trial_finish(trial, exc_type, exc_val, exc_tb):
            await rest()

    async def log_trial_chrono_start(
        self,
        trial: Trial,
        name: str,
        aggregator: AggregatorSpec | None = CHRONO_AGGREGATOR,
        start_callback: Callback | None = None,
        end_callback: Callback | None = None,
    ) -> None:
        if rest := self.log.log_trial_chrono_start(trial, name, aggregator, start_callback, end_callback):
            await rest()

    async def log_trial_chrono_finish(
        self,
        trial: Trial,
        name: str,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        if rest := self.log.log_trial_chrono_finish(trial, name, exc_type, exc_val, exc_tb):
            await rest()

    async def log_trial_arguments(self, /, trial: Trial, *values: Mapping[str, Any], **kwargs: Any) -> None:
        if rest := self.log.log_trial_arguments(trial, *values, **kwargs):
            await rest()

    async def log_trial_metadata(
        self, /, trial: Trial, *args: Any, aggregator: AggregatorSpec | None = value_aggregator, **kwargs: Any
    ) -> None:
        if rest := self.log.log_trial_metadata(trial, *args, aggregator=aggregator, **kwargs):
            await rest()

    async def log_trial_metrics(
        self,
        /,
        trial: Trial,
        *args: Any,
        step: Step | None = None,
        aggregator: AggregatorSpec | None = None,
        **kwargs: Any,
    ) -> None:
        if args:
            kwargs, step, aggregator = resolve("metrics", args, kwargs, step=step, aggregator=aggregator)
        if self.log.add_row(trial, step, aggregator, kwargs):
            return
        if (now := time.monotonic()) >= self._yield_at:
            self._yield_at = now + _YIELD_SECONDS
            await asyncio.sleep(0)
        if rest := self.log.log_trial_metrics(trial, step, aggregator, kwargs):
            await rest()

    def log_trial_metrics_nowait(
        self, trial: Trial, step: Step | None, aggregator: AggregatorSpec | None, values: dict[str, Any]
    ) -> bool:
        return self.log.add_row(trial, step, aggregator, values)

    async def set_trial_status(
        self,
        trial: Trial,
        status: Status | CustomStatus,
        error: str | BaseException | type[BaseException] | None = None,
    ) -> None:
        if rest := self.log.set_trial_status(trial, status, error):
            await rest()

    async def add_trial_tags(self, /, trial: Trial, *values: Mapping[str, Any], **kwargs: Any) -> None:
        if rest := self.log.add_trial_tags(trial, *values, **kwargs):
            await rest()

    # --- Projects and groups

    async def new_project(self, project: Project, *, wait: bool = True) -> Project:
        project = creations.new_project(checked(project, Project, "project"))
        session = self._session
        event = commands.create_project(session.writer, project)
        if not self._waits_for_outcome(wait):
            await self._put(event)
            session.subjects.add("projects", project.uid)
            return replace(project, created=from_micros(event.time))
        await session.request(event)
        session.subjects.add("projects", project.uid)
        [created] = await session.lifecycle.call(session.reader.projects({"uid": project.uid}))
        return created

    async def new_trial_group(self, group: TrialGroup, *, wait: bool = True) -> TrialGroup | None:
        group = creations.new_group(checked(group, TrialGroup, "group"))
        session = self._session
        event = commands.create_group(session.writer, group)
        if not self._waits_for_outcome(wait):
            await self._put(event)
            session.subjects.add("groups", group.uid)
            return replace(group, created=from_micros(event.time))
        decision = await session.request(event)
        session.subjects.add("groups", group.uid)
        if not decision.outcome.applied:
            return None
        [created] = await session.lifecycle.call(session.reader.groups({"uid": group.uid}))
        return created

    async def add_project_trial(self, project: Project, trial: Trial) -> None:
        if rest := self.log.add_project_trial(project, trial):
            await rest()

    async def add_group_trial(self, group: TrialGroup, trial: Trial) -> None:
        if rest := self.log.add_group_trial(group, trial):
            await rest()

    async def set_group_metadata(self, /, group: TrialGroup, *values: Mapping[str, Any], **kwargs: Any) -> None:
        if rest := self.log.set_group_metadata(group, *values, **kwargs):
            await rest()

    # --- Creating and claiming

    async def new_trial(
        self, trial: Trial, auto_increment: bool = False, *, wait: bool = True, run_id: str | None = None
    ) -> Trial | None:
        if not wait and not auto_increment:
            raise InvalidValue(
                "wait: expected True without auto_increment, got False: only the wait shows whether the trial exists"
            )
        # Each call without a run is a new creation, even if an earlier creation of the same trial is undecided.
        trial = creations.new_trial(checked(trial, Trial, "trial"))
        request = None if run_id is None else creations.request_of_run(run_id, trial)
        session = self._session
        if trial.project_id is not None:
            await self.log.require_project(trial.project_id)
        if trial.group_id is not None:
            await self.log.require_group(trial.group_id, trial.group_id)
        event = commands.create_trial(session.writer, trial, auto_increment=auto_increment, request=request)
        if not self._waits_for_outcome(wait):
            event.auto_increment = True
            await self._put(event)
            return self._undecided(trial, event)
        try:
            decision = await session.request(event)
        except (CommitTimeout, ProjectionBehind, MongoUnavailable) as error:
            if not auto_increment or session.config.sync_writes:  # whether the trial exists is unknown
                raise
            session.lifecycle.warn_once(
                f"trialstream: the trial goes on without its revision until its creation is folded: {error}"
            )
            return self._undecided(trial, event)
        return None if decision.outcome.uid is None else await self._decided(decision)

    def _waits_for_outcome(self, wait: bool) -> bool:
        """Whether a creation waits for its outcome; raises `ProtocolClosed` if the protocol is not open."""
        return self._session.requests_outcomes and (wait or self._session.config.sync_writes)

    async def _decided(self, decision: Decision) -> Trial:
        """Return the trial of an applied decision."""
        session, trial = self._session, decision.trial
        if trial is None:  # the outcome came from a projection that was being dropped; the live one has the trial
            [trial] = await session.lifecycle.call(session.reader.trials({"uid": decision.outcome.uid}))
        session.subjects.add("trials", trial.uid)
        return trial

    def _undecided(self, trial: Trial, event: TrialCreated) -> Trial:
        """Return the trial of a creation that the log has not decided; later events address it by the request."""
        created = from_micros(event.time)
        status = trial.status or Status.CreatedGroup
        addressed = replace(
            trial, hash=str(trial.hash), request=event.request, status=status, created=created, last_seen=created
        )
        self._session.subjects.add("trials", addressed.uid)
        return addressed

    async def fetch_and_update_trial(
        self, /, query: Query, attr: str | None = None, *args: Any, **kwargs: Any
    ) -> Trial:
        session = self._session
        event = claim_event(self._row_checks.updates, session.writer, attr, args, kwargs)
        decision = await session.claim(session.reader.candidates("trials", query), event)
        trial = await self._decided(decision)
        for each in updates_of(event):
            if isinstance(each, TrialStarted):
                session.started[trial.uid] = time.perf_counter()
                if each.attempt is not None:
                    session.attempts[trial.uid] = each.attempt
            elif isinstance(each, TrialFinished):
                session.started.pop(trial.uid, None)
        return trial

    async def fetch_and_update_group(
        self, /, query: Query, attr: str | None = None, *args: Any, **kwargs: Any
    ) -> TrialGroup:
        session = self._session
        event = claim_event(commands.GROUP_UPDATES, session.writer, attr, args, kwargs)
        decision = await session.claim(session.reader.candidates("groups", query), event)
        [group] = await session.lifecycle.call(session.reader.groups({"uid": decision.outcome.uid}))
        session.subjects.add("groups", group.uid)
        return group

    # --- Waiting

    async def commit(self, level: CommitLevel = "acked", timeout: float | None = None, **_: Any) -> None:
        session = self._session
        session.lifecycle.check_open()
        seconds = session.timeout if timeout is None else number(timeout, "timeout")
        if math.isnan(seconds):
            raise InvalidValue("timeout: expected a number of seconds, got nan")
        waits = session.waits
        by_level = {"acked": waits.wait_acked, "folded": waits.wait_folded, "spooled": waits.wait_spooled}
        if level not in by_level:
            raise InvalidValue(f"level: expected {', '.join(map(repr, by_level))}, got {level!r}")
        if level == "folded" and not session.config.offline:
            session.check_online()
        await session.lifecycle.call(waits.wait_spooled if session.config.offline else by_level[level], seconds)


class KafkaProtocol(LoggingProtocol):
    """Streams events to Kafka and reads from MongoDB; made by `connect`.

    Args:
        config: Where the servers are.
        timeout: Maximum duration of any wait, seconds: a commit, a read of own writes, a creation.

    Raises:
        ConfigError: A setting is invalid; the message names it.
    """

    def __init__(self, config: Config, *, timeout: float = 30.0) -> None:
        if config.mongo:
            driver_options(config)  # checks them
        if not config.offline:
            config.kafka_client()  # reads the certificates
        if config.offline or config.spool == "always":  # every event goes to disk
            try:
                check_writable(config.spools, config.spool_folder)
            except SpoolError as error:
                raise ConfigError(f"spool_dir: expected a folder that can be written: {error}") from error
        seconds = check_timeout(timeout)
        super().__init__(Session(config, seconds, KafkaAndMongo(config, seconds)))
