"""Running the rules: follows the trials and looks at the servers, and starts actions when a rule begins to hold.

- A rule gives one alert for each trial (with `repeat`, another one after it was cleared), and goes on where it ended.
- Rules with the same trials share a watch. What holds is decided by what a trial is now, so a restart misses nothing
  that still holds.
- Rules about what a trial is concern trials that were heard from since the rule was first used and in the last 90 days,
  and not all trials of the past. Rules about silence concern trials with a running status.
- An action that fails is tried again after a minute, while the rule holds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import anyio
import trialstream as ts
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from trialstream.reading.read_only import ReadOnlyProtocol
from trialstream_schemas.errors import ServerUnavailable, TrialStreamError
from trialstream_schemas.messages import counted
from trialstream_schemas.model.trial import Trial

from trialstream_console.alerts import forgetting
from trialstream_console.alerts.actions import ActionFailed, Alert
from trialstream_console.alerts.conditions import Condition, NoRows, SilentCondition
from trialstream_console.alerts.rules import DeadLetters, Lag, Rule, Rules
from trialstream_console.alerts.servers import Servers
from trialstream_console.alerts.state import Entry, RuleState, State

__all__ = ["run_alerts"]

logger = logging.getLogger("trialstream.alerts")

_RUNNING = {"status.code": {"$gte": 100, "$lt": 200}}
# Interval of looks at the servers and at silent trials; a quarter of the shortest silence if that is less.
_TICK_SECONDS = 5.0
_RETRY_SECONDS = 60.0
# How far the clocks of writers may be behind, for the time at which a rule was first used.
_SKEW = timedelta(minutes=1)
# Least time between two alerts of one rule about dead letters.
_DEAD_LETTERS_SECONDS = 600.0
_WORKERS = 4
_FORGET_SECONDS = 86_400.0
_CAUGHT_UP_SECONDS = 10.0
_CAUGHT_UP_POLL_SECONDS = 0.2
# Names in alerts that concern no trial.
_THE_LOG, _DEAD_LETTERS = "the projection", "dead letters"


class _Used(NamedTuple):
    """A rule, and its state."""

    rule: Rule
    state: RuleState


class _Held:
    """A running trial of a rule about silence.

    Attributes:
        trial: The trial, as it was last seen.
        last_row: When its last row was logged; None if that is not known yet.
    """

    def __init__(self, trial: Trial, last_row: datetime | None) -> None:
        self.trial = trial
        self.last_row = last_row


class _Group:
    """Rules with the same trials.

    Args:
        rules: The rules.
    """

    def __init__(self, rules: list[_Used]) -> None:
        self.rules = rules
        self.is_silent = isinstance(rules[0].rule.condition, SilentCondition)
        # Running trials, of rules about silence.
        self.held: dict[str, _Held] = {}

    @property
    def query(self) -> dict[str, Any]:
        """The trials, as `watch` takes them."""
        if self.is_silent:
            return {"$and": [_RUNNING, self.rules[0].rule.query]}
        since = min(_since(each.state) for each in self.rules)
        return {"$and": [{"last_seen": {"$gte": since}}, self.rules[0].rule.query]}

    @property
    def fields(self) -> list[str]:
        """The fields that the conditions need."""
        found = {"name", "last_seen"}
        for each in self.rules:
            condition = each.rule.condition
            found.update(condition.paths if isinstance(condition, Condition) else condition.fields)  # type: ignore[union-attr]  # only of trials
        return sorted(found)


def _since(state: RuleState) -> datetime:
    return max(datetime.fromisoformat(state.since) - _SKEW, datetime.now(UTC) - forgetting.KEPT)


async def run_alerts(
    rules: Rules, state: State, place: Mapping[str, Any], servers: Servers | None = None, *, once: bool = False
) -> int:
    """Run rules until cancelled, or once.

    Args:
        rules: The rules.
        state: Their state.
        place: Arguments of `trialstream.watch` for the place of the trials.
        servers: The servers; None for a log in memory, whose projection is always complete.
        once: Whether to check each rule once, do what is to be done, and return.

    Returns:
        Number of alerts of which an action failed; it is tried again by the next run.

    Raises:
        MongoUnavailable: MongoDB did not answer at the start, or refuses the user.
        InvalidValue: The state cannot be written.
    """
    async with ts.connect(**{**place, "read_only": True}) as protocol:
        running = _Running(rules, state, place, servers, protocol)
        try:
            await (running.check_once() if once else running.run())
        except BaseExceptionGroup as group:  # of the tasks; the first has cancelled the others
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
        return running.failures


class _Running:
    """The rules, while they run."""

    def __init__(
        self, rules: Rules, state: State, place: Mapping[str, Any], servers: Servers | None, protocol: ReadOnlyProtocol
    ) -> None:
        self._actions = rules.actions
        self._state = state
        self._place = place
        self._servers = servers
        self._protocol = protocol
        state.keep({each.name for each in rules.rules})
        used = [_Used(each, state.rule(each.name, each.digest)) for each in rules.rules]
        groups: dict[tuple[str, bool], list[_Used]] = {}
        for each in used:
            if isinstance(each.rule.condition, (Condition, SilentCondition)):
                key = (each.rule.where, isinstance(each.rule.condition, SilentCondition))
                groups.setdefault(key, []).append(each)
        self._groups = [_Group(each) for each in groups.values()]
        self._of_servers = [each for each in used if isinstance(each.rule.condition, (Lag, DeadLetters))]
        silences = [each.rule.condition.seconds for each in used if isinstance(each.rule.condition, SilentCondition)]
        self._tick_seconds = min([_TICK_SECONDS, *(each / 4 for each in silences)])
        # Alerts whose actions run, whether the rule was cleared meanwhile, and those that are due again at a time of
        # the monotonic clock.
        self._busy: dict[tuple[str, str], bool] = {}
        self._failed: dict[tuple[str, str], tuple[float, _Used, Alert, str]] = {}
        self._send: ObjectSendStream[tuple[_Used, Alert, str]]
        self._is_away = False
        self._forget_at = time.monotonic() + _FORGET_SECONDS
        self.failures = 0

    async def run(self) -> None:
        """Run until cancelled."""
        self._state.save()
        async with anyio.create_task_group() as tasks:
            self._start_workers(tasks)
            async with self._send:
                for group in self._groups:
                    tasks.start_soon(partial(self._follow, group, once=False))
                while True:
                    await self._tick()
                    await anyio.sleep(self._tick_seconds)

    async def check_once(self) -> None:
        """Check each rule once, and wait for the actions."""
        async with anyio.create_task_group() as tasks:
            self._start_workers(tasks)
            async with self._send:
                if self._servers is not None:
                    await self._wait_shown(self._servers)
                for group in self._groups:
                    await self._follow(group, once=True)
                await self._tick()
        if self._servers is not None:
            self._state.behind = self._servers.behind
        self._state.save()

    def _start_workers(self, tasks: anyio.abc.TaskGroup) -> None:
        self._send, receive = anyio.create_memory_object_stream[tuple[_Used, Alert, str]](_WORKERS)
        for _ in range(_WORKERS):
            tasks.start_soon(self._work, receive.clone())
        receive.close()

    async def _wait_shown(self, servers: Servers) -> None:
        """Wait until the projection has caught up; without that, no trial is silent."""
        await self._look(servers)
        with anyio.move_on_after(_CAUGHT_UP_SECONDS):
            while servers.shown is None and not self._is_away:
                await anyio.sleep(_CAUGHT_UP_POLL_SECONDS)
                await self._look(servers)

    # --- Trials

    async def _follow(self, group: _Group, *, once: bool) -> None:
        seen: set[str] = set()
        is_reset = False
        async with ts.watch(group.query, fields=group.fields, **self._place) as watch:
            async for batch in watch.batches():
                if batch.reset:
                    seen, is_reset = set(), True
                for change in batch.changes:
                    if change.matches and change.trial is not None:
                        seen.add(change.uid)
                        await self._take(group, change.trial)
                    else:
                        await self._leave(group, change.uid)
                if is_reset and batch.cursor is not None:
                    is_reset = False
                    others = {uid for each in group.rules for uid in each.state.entries if uid not in seen}
                    for uid in others:
                        await self._leave(group, uid)
                    await self._forget(group)
                    if once:
                        return

    async def _take(self, group: _Group, trial: Trial) -> None:
        """Look at a trial that has changed."""
        if group.is_silent:
            known = group.held.get(trial.uid)
            if known is None:
                group.held[trial.uid] = _Held(trial, None)
            else:
                if trial.rows != known.trial.rows:
                    known.last_row = datetime.now(UTC)
                known.trial = trial
            return
        for each in group.rules:
            condition = each.rule.condition
            assert isinstance(condition, Condition)
            if trial.last_seen is not None and trial.last_seen >= _since(each.state):
                await self._settle(each, trial.uid, trial.name, condition.message(trial))

    async def _leave(self, group: _Group, uid: str) -> None:
        """Look at a trial that the rules do not concern any more."""
        group.held.pop(uid, None)
        for each in group.rules:
            await self._settle(each, uid, "", None)

    async def _forget(self, group: _Group) -> None:
        """Drop old alerts of trials that the rules do not concern any more; a silent group holds those it concerns."""
        if await forgetting.forget(self._protocol, [each.state.entries for each in group.rules], group.held):
            self._state.save()

    async def _check_silence(self, group: _Group, shown: datetime) -> None:
        for uid, held in list(group.held.items()):
            for each in group.rules:
                condition = each.rule.condition
                assert isinstance(condition, SilentCondition)
                if isinstance(condition, NoRows) and held.last_row is None:
                    held.last_row = await self._last_row(held.trial)
                if uid in group.held:
                    await self._settle(each, uid, held.trial.name, condition.message(held.trial, held.last_row, shown))

    async def _last_row(self, trial: Trial) -> datetime | None:
        """Read when the last row of a trial was logged; when the trial was started if it has none."""
        for section in ("metrics", "chronos", "metadata") if trial.rows else ():
            histories = await self._protocol.fetch_histories([trial], since_row=trial.rows - 1, section=section)
            times = [each.times.max() for each in histories.get(trial.uid, {}).values() if len(each)]
            if times:
                return max(times).item().replace(tzinfo=UTC)  # type: ignore[no-any-return]  # a datetime
        return trial.started

    # --- Servers

    async def _tick(self) -> None:
        """Look at the servers and at silent trials, and try again what has failed."""
        shown: datetime | None = datetime.now(UTC)
        if (servers := self._servers) is not None:
            await self._look(servers)
            shown = servers.shown
        try:
            if shown is not None:
                for group in self._groups:
                    if group.is_silent:
                        await self._check_silence(group, shown)
            if time.monotonic() >= self._forget_at:
                self._forget_at += _FORGET_SECONDS
                for group in self._groups:
                    await self._forget(group)
            if servers is not None and not self._is_away:
                for each in self._of_servers:
                    await self._check_servers(each, servers)
        except ServerUnavailable as error:
            self._note_away(error)
        for key, (due, used, alert, mark) in list(self._failed.items()):
            if time.monotonic() >= due:
                del self._failed[key]
                await self._start(used, alert, mark)

    async def _look(self, servers: Servers) -> None:
        """Look at the servers; while they are away, the rules about them and about silence wait."""
        try:
            await servers.look()
        except ServerUnavailable as error:
            self._note_away(error)
        else:
            if self._is_away:
                logger.warning("the servers answer again")
            self._is_away = False

    def _note_away(self, error: TrialStreamError) -> None:
        if not self._is_away:
            logger.warning("rules about the servers and about silence wait: %s", error)
        self._is_away = True

    async def _check_servers(self, used: _Used, servers: Servers) -> None:
        condition = used.rule.condition
        if isinstance(condition, Lag):
            await self._settle(used, "", _THE_LOG, _lag_message(condition, servers))
            return
        letter = await servers.latest_dead_letter()
        if letter is None or letter.time < 1000 * _since(used.state).timestamp():
            return
        mark = f"{letter.topic}/{letter.partition}/{letter.offset}"
        entry = used.state.entries.get("")
        if entry is not None and used.rule.repeat and entry.mark != mark and entry.age > _DEAD_LETTERS_SECONDS:
            del used.state.entries[""]
        await self._settle(used, "", _DEAD_LETTERS, f"the latest is {mark}: {letter.reason}", mark)

    # --- Alerts

    async def _settle(self, used: _Used, uid: str, name: str, message: str | None, mark: str = "") -> None:
        """Give an alert if a rule has begun to hold; forget it if the rule was cleared, and alerts are repeated."""
        key = (used.rule.name, uid)
        if message is None:
            self._failed.pop(key, None)
            if key in self._busy:
                self._busy[key] = True
            elif used.rule.repeat and used.state.entries.pop(uid, None) is not None:
                self._state.save()
            return
        if key in self._busy:
            self._busy[key] = False
        entry = used.state.entries.get(uid)
        if (entry is None or set(used.rule.actions) - set(entry.done)) and key not in self._failed:
            await self._start(used, Alert(used.rule.name, uid, name, message), mark)

    async def _start(self, used: _Used, alert: Alert, mark: str) -> None:
        key = (alert.rule, alert.uid)
        if key not in self._busy:
            self._busy[key] = False
            await self._send.send((used, alert, mark))

    async def _work(self, alerts: ObjectReceiveStream[tuple[_Used, Alert, str]]) -> None:
        """Run the actions of alerts."""
        async with alerts:
            async for used, alert, mark in alerts:
                key = (alert.rule, alert.uid)
                if not await self._act(used, alert, mark):
                    self.failures += 1
                    self._failed[key] = (time.monotonic() + _RETRY_SECONDS, used, alert, mark)
                if self._busy.pop(key):
                    await self._settle(used, alert.uid, alert.name, None)

    async def _act(self, used: _Used, alert: Alert, mark: str) -> bool:
        """Run the actions of an alert that have not succeeded yet; return whether all have."""
        has_failed = False
        for name in used.rule.actions:
            entry = used.state.entries.get(alert.uid)
            if entry is not None and name in entry.done:
                continue
            try:
                await self._actions[name].run(alert)
            except ActionFailed as error:
                has_failed = True
                logger.warning("%s: action %s failed, and is tried again: %s", alert.rule, name, error)
                continue
            if entry is None:
                entry = used.state.entries[alert.uid] = Entry(datetime.now(UTC).isoformat(), mark=mark)
            entry.done.append(name)
            self._state.save()
        return not has_failed


def _lag_message(condition: Lag, servers: Servers) -> str | None:
    events, seconds = servers.events, servers.seconds
    if condition.events is not None and events > condition.events:
        return f"{counted(events, 'event')} behind the log, over {condition.events}"
    if condition.seconds is not None and events and seconds > condition.seconds:
        return f"{seconds:.0f} s behind the log, over {condition.seconds:g} s ({counted(events, 'event')})"
    return None
