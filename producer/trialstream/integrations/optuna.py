"""Optuna: a callback that logs its trials, and a storage over the log for any number of workers.

    with ts.track("study") as t:
        storage = JournalStorage(LogBackend("digits"))
        study = optuna.create_study(study_name="digits", storage=storage, load_if_exists=True)
        study.optimize(objective, n_trials=20, callbacks=[OptunaCallback()])

Each line of the storage is an event of one trial of trialstream. All workers read these events from their partition, so
that the log decides their order, and no lock, database or consumer is needed.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import optuna
from optuna.storages.journal import BaseJournalBackend
from trialstream_schemas.errors import CommitTimeout, ConfigError, InvalidType, MongoUnavailable, TrialStreamError
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.events import MetadataLogged

from trialstream.config import Config, check_timeout
from trialstream.integrations.trials import start_trial
from trialstream.kafka.protocol import KafkaProtocol
from trialstream.log.trial_events import TrialEvents
from trialstream.runtime.shutdown import at_exit
from trialstream.tracking import current

__all__ = ["LogBackend", "OptunaCallback"]

# The metadata that holds the lines of one event. The document of the trial keeps those of the last event only.
_LINES = "lines"


class OptunaCallback:
    """Logs each trial of a study, as a trial in a group with the name of the study.

    Its parameters, user attributes, values and intermediate values are those of Optuna's trial, and its tag `optuna` is
    the state: `COMPLETE`, `PRUNED` or `FAIL`; a failed one has the status `Exception`. A current tracker, such
    as one around `optimize`, gets the values of all trials, with the number of the trial as the step.

    Args:
        project: Name of the project of the trials; None for none.
        metrics: Names of the objectives' values; None for `value`, or `value0`, `value1` and so on.
        timeout: As for `track`.
        **settings: Settings as for `connect`.
    """

    def __init__(
        self,
        *,
        project: str | None = None,
        metrics: list[str] | None = None,
        timeout: float = 30.0,
        **settings: Any,
    ) -> None:
        if isinstance(metrics, str):
            raise InvalidType(f"metrics: expected a list of names, got the str {metrics!r}")
        self._project = project
        self._metrics = metrics
        self._timeout = timeout
        self._settings = settings

    def __call__(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Log a trial.

        Args:
            study: The study.
            trial: The trial, which has ended.
        """
        values = self._values(trial)
        if (tracker := current()) is not None:
            tracker.log(values, step=trial.number)
        logged = start_trial(
            f"{study.study_name} {trial.number}",
            project=self._project,
            group=study.study_name,
            parameters=trial.params,
            tags={"optuna": trial.state.name},
            metadata={"optuna": {"number": trial.number, "duration": trial.duration, **trial.user_attrs}},
            run_id=f"optuna {trial.datetime_start} {trial.number} {study.study_name}",
            timeout=self._timeout,
            **self._settings,
        )
        for step, value in trial.intermediate_values.items():
            logged.log({"intermediate": value}, step=step)
        logged.log(values)
        failed = trial.state is optuna.trial.TrialState.FAIL
        logged.finish(RuntimeError(trial.system_attrs.get("fail_reason", "failed")) if failed else None)

    def _values(self, trial: optuna.trial.FrozenTrial) -> dict[str, float]:
        values = trial.values or []
        names = self._metrics or (["value"] if len(values) == 1 else [f"value{i}" for i in range(len(values))])
        return dict(zip(names, values, strict=False))


class LogBackend(BaseJournalBackend):
    """Keeps the journal of Optuna's `JournalStorage` in the log, for any number of workers and studies.

    Workers that give the same name and project, in any process and on any machine, share the storage. `append_logs`
    returns once the log has the lines. It needs a connection to Kafka: nothing is spooled, since the lines that a dead
    worker left on disk must not be appended later. A backend may be pickled and forked; each process has a connection
    of its own, from its first call on.

    Args:
        name: Name of the storage.
        timeout: Maximum duration of any wait, seconds.
        **settings: Settings as for `connect`, such as `kafka`, `mongo`, `prefix`. MongoDB only helps to begin to read
            at the right place; without it, the partition is read from its beginning.

    Raises:
        ConfigError: A setting is invalid, or excludes that events are sent to Kafka; the message names it.
    """

    def __init__(self, name: str, *, timeout: float = 30.0, **settings: Any) -> None:
        self._trial = Trial(name=f"optuna storage {name}", description="Journal of a storage of Optuna.")
        self._timeout = check_timeout(timeout)
        config = Config.from_env(**settings)
        if config.offline or config.read_only or config.projection:
            raise ConfigError("LogBackend: expected settings that log to Kafka, got offline, read_only or projection")
        self._config = replace(config, spool="off", sync_writes=False)
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_trial", "_timeout", "_config")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._journal: _Journal | None = None

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Read the lines from a number on.

        Args:
            log_number_from: Number of the first line, counted from 0.

        Returns:
            The lines, in the order of the log.

        Raises:
            KafkaUnavailable: No broker answered in time.
        """
        with self._lock:
            return [json.loads(line) for line in self._open().read(log_number_from)]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines, all or none of them.

        Args:
            logs: The lines, of values that JSON has.

        Raises:
            CommitTimeout: Kafka has not acknowledged the lines in time; it may still get them.
            InvalidValue: The lines have more than 512 KiB.
            KafkaUnavailable: No broker answered when the connection was opened.
        """
        with self._lock:
            self._open().append([json.dumps(each, separators=(",", ":")) for each in logs])

    def close(self) -> None:
        """Close the connection of this process; a later call opens another one."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()
            self._journal = None

    def _open(self) -> _Journal:
        if self._journal is None or self._journal.pid != os.getpid():
            self._journal = _Journal(self._config, self._trial, self._timeout)
        return self._journal


class _Journal:
    """The connection of one process to the journal.

    Args:
        config: Where the servers are.
        trial: Definition of the trial whose events hold the lines.
        timeout: Maximum duration of any wait, seconds.
    """

    def __init__(self, config: Config, trial: Trial, timeout: float) -> None:
        self.pid = os.getpid()
        self._protocol = KafkaProtocol(config, timeout=timeout)
        self._timeout = timeout
        self._lines: list[str] = []
        self._first = 0  # number of the first line of `_lines`
        self._trial: Trial
        self._events: TrialEvents
        lifecycle = self._protocol.lifecycle
        lifecycle.open_blocking()
        try:
            lifecycle.run(self._begin, config, trial)
        except BaseException:
            lifecycle.close_blocking(failed=True)
            raise
        self._stay = at_exit(self.close)

    async def _begin(self, config: Config, definition: Trial) -> None:
        created: datetime | None = None
        with suppress(MongoUnavailable):  # before the creation, so that this waits for no fold
            found = await self._protocol.fetch_trials({"name": definition.name})
            created = min([each.created for each in found if each.created is not None], default=None)
        # The log takes the first creation, and all workers have the same address.
        trial = await self._protocol.new_trial(definition, auto_increment=True, wait=False, run_id="optuna")
        assert trial is not None  # with auto_increment
        self._trial = trial
        self._events = await TrialEvents(config, trial.uid, created, self._timeout).__aenter__()

    def append(self, lines: list[str]) -> None:
        """Append lines, and wait until Kafka has them."""
        self._protocol.lifecycle.run(self._append, lines)

    async def _append(self, lines: list[str]) -> None:
        dropped = self._protocol.statistics().dropped
        await self._protocol.log_trial_metadata(self._trial, {_LINES: lines})
        await self._protocol.commit("acked", self._timeout)
        if self._protocol.statistics().dropped > dropped:
            raise CommitTimeout("the lines were dropped, since Kafka has refused them or memory is full")

    def read(self, number: int) -> list[str]:
        """Return the lines from a number on; the lines before it are forgotten."""
        if number < self._first:
            self._events.rewind()
            self._lines, self._first = [], 0
        self._protocol.lifecycle.run(self._read)
        del self._lines[: number - self._first]
        self._first = number
        return self._lines

    async def _read(self) -> None:
        for event in await self._events.read():  # without a wait from here on, so that an interrupt loses no line
            if isinstance(event, MetadataLogged):
                self._lines += event.values.get(_LINES, ())  # type: ignore[arg-type]  # a list of texts, see `append`

    def close(self) -> None:
        """Close the connection, if this process has opened it."""
        if self.pid == os.getpid():
            self._stay()
            with suppress(TrialStreamError):
                self._protocol.lifecycle.run(self._events.__aexit__)
            self._protocol.lifecycle.close_blocking()
