"""The rules of a file: which condition, for which trials, and which actions. All is checked when the file is read."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialstream.files import open_given
from trialstream_schemas.errors import ConfigError, InvalidValue

from trialstream_console.alerts.actions import Action, Log, read_action
from trialstream_console.alerts.conditions import (
    VALUES,
    Condition,
    Failed,
    Lost,
    MetricBeyond,
    NoRows,
    NotFinite,
    RankLost,
    SilentCondition,
)
from trialstream_console.alerts.tables import Table
from trialstream_console.queries import parse_where
from trialstream_console.silence import SILENT_SECONDS

__all__ = ["DeadLetters", "Lag", "Rule", "Rules", "read_rules"]

_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Lag:
    """The projection is behind the log.

    Attributes:
        events: Number of events above which it holds; None for any.
        seconds: Time above which it holds; None for any.
    """

    events: int | None
    seconds: float | None


@dataclass(frozen=True)
class DeadLetters:
    """A record could not be folded."""


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        name: Its name in the file.
        condition: When it holds.
        where: The trials that it concerns, in the query language.
        query: The same, as `fetch_trials` takes it.
        actions: Names of the actions.
        repeat: Whether the actions run again after the condition was cleared.
        digest: Text that differs between conditions.
    """

    name: str
    condition: Condition | SilentCondition | Lag | DeadLetters
    where: str
    query: Mapping[str, Any]
    actions: tuple[str, ...]
    repeat: bool
    digest: str


@dataclass(frozen=True)
class Rules:
    """The rules of a file, and their actions by name."""

    rules: tuple[Rule, ...]
    actions: Mapping[str, Action]


def read_rules(path: Path) -> Rules:
    """Read a file of rules.

    Args:
        path: The file, TOML.

    Returns:
        The rules.

    Raises:
        ConfigError: The file is no TOML, or a rule or action is wrong; the message names it, and the key.
        InvalidValue: The file cannot be read.
    """
    with open_given(path) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path}: expected at most {_MAX_BYTES} bytes, got more")
    try:
        given = Table(str(path), tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from None
    actions: dict[str, Action] = {"log": Log()}
    for name, action in _tables(given, "action").items():
        actions[name] = read_action(Table(f"{path}: action {name!r}", action))
    rules: dict[str, Rule] = {}
    for name, rule in _tables(given, "rule").items():
        rules[name] = _rule(name, Table(f"{path}: rule {name!r}", rule), actions)
    given.finish()
    if not rules:
        raise ConfigError(f"{path}: expected at least one table [rule.NAME], got none")
    return Rules(tuple(rules.values()), actions)


def _tables(given: Table, key: str) -> dict[str, object]:
    """Return the tables [key.NAME] by name."""
    return given.tables(key) if given.has(key) else {}


def _rule(name: str, table: Table, actions: Mapping[str, Action]) -> Rule:
    condition = _CONDITIONS[table.text("when", _CONDITIONS)](table)
    where, query = "", dict[str, Any]()
    if isinstance(condition, (Condition, SilentCondition)) and table.has("where"):
        where = table.text("where")
        try:
            query = parse_where(where)
        except InvalidValue as error:
            raise ConfigError(f"{table.name}: {error}") from None
    do = table.texts("do") if table.has("do") else ("log",)
    for each in do:
        if each not in actions:
            raise table.fail("do", f"names of actions ({', '.join(actions)})")
    repeat = table.flag("repeat", default=False)
    table.finish()
    digest = hashlib.sha256(repr((condition, where)).encode()).hexdigest()[:16]
    return Rule(name, condition, where, query, tuple(dict.fromkeys(do)), repeat, digest)


def _metric(table: Table) -> MetricBeyond:
    name, value = table.text("metric"), table.text("value", VALUES) if table.has("value") else "last"
    over = table.number("over") if table.has("over") else None
    under = table.number("under") if table.has("under") else None
    if over is None and under is None:
        raise ConfigError(f"{table.name}: expected the key over, under, or both, got neither")
    return MetricBeyond(name, value, over, under)


def _lag(table: Table) -> Lag:
    events = table.count("events") if table.has("events") else None
    seconds = table.seconds("seconds") if table.has("seconds") else None
    if events is None and seconds is None:
        raise ConfigError(f"{table.name}: expected the key events, seconds, or both, got neither")
    return Lag(events, seconds)


_CONDITIONS: Mapping[str, Callable[[Table], Condition | SilentCondition | Lag | DeadLetters]] = {
    "no_rows": lambda table: NoRows(table.seconds("for")),
    "nan": lambda table: NotFinite(table.text("metric") if table.has("metric") else ""),
    "metric": _metric,
    "failed": lambda _: Failed(),
    "rank_lost": lambda table: RankLost(table.seconds("for", SILENT_SECONDS)),
    "lost": lambda table: Lost(table.seconds("for", SILENT_SECONDS)),
    "lag": _lag,
    "dead_letters": lambda _: DeadLetters(),
}
