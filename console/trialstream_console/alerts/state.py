"""The state file: which alerts were given, so that a restart gives none again.

It is written after each action has succeeded. A process that is killed between an action and the write repeats that
action: at least once. The file is written under another name and renamed, for its user alone; a lock beside it keeps a
second process out.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from trialstream.files import new_file, open_file, read_limited
from trialstream_schemas.errors import InvalidValue

__all__ = ["Entry", "RuleState", "State"]

_MAX_BYTES = 256 * 1024 * 1024
_VERSION = 1


@dataclass
class Entry:
    """An alert that was given, or is being given.

    Attributes:
        time: When its first action succeeded, ISO 8601.
        done: The actions that have succeeded.
        mark: What it was about, where that can be exceeded: the latest dead letter.
    """

    time: str
    done: list[str] = field(default_factory=list)
    mark: str = ""

    @property
    def age(self) -> float:
        """Seconds since then."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.time)).total_seconds()


@dataclass
class RuleState:
    """The state of a rule.

    Attributes:
        digest: Digest of its condition: another condition begins anew.
        since: When the rule was first used, ISO 8601.
        entries: Alerts by the uid of the trial; empty for a rule about the servers.
    """

    digest: str
    since: str
    entries: dict[str, Entry] = field(default_factory=dict)


class State:
    """The state of all rules of a file; in memory alone without a path.

    Args:
        path: The state file; None for none.

    Attributes:
        behind: When the log had which ends that were not folded yet: a time in ISO 8601, and offsets by
            `<topic>/<partition>`; None if all was folded.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rules: dict[str, RuleState] = {}
        self.behind: tuple[str, dict[str, int]] | None = None

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Read a state file, if it exists, and keep other processes from using it.

        Args:
            path: The file.

        Yields:
            The state.

        Raises:
            InvalidValue: The file cannot be read or is no state file, or another process uses it.
        """
        try:
            lock = os.open(
                path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise InvalidValue(f"{path}: expected a file that can be written: {error.strerror}") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InvalidValue(f"{path}: another process uses it: end that one, or name another --state") from None
            state = cls(path)
            state._read(path)
            yield state
        finally:
            os.close(lock)

    def _read(self, path: Path) -> None:
        try:
            file = open_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise InvalidValue(f"{path}: expected a state file: {error.strerror}") from None
        try:
            content = read_limited(file, _MAX_BYTES)
        finally:
            os.close(file)
        try:
            given: dict[str, Any] = json.loads(content)
            if given["version"] != _VERSION:
                raise ValueError(f"version {given['version']!r}")
            for name, rule in given["rules"].items():
                entries = {uid: Entry(**each) for uid, each in rule.pop("entries").items()}
                self._rules[name] = RuleState(**rule, entries=entries)
                datetime.fromisoformat(self._rules[name].since)
            self.behind = given["behind"] and (given["behind"][0], dict(given["behind"][1]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidValue(
                f"{path}: expected a state file of this version, got another ({type(error).__name__}): remove it to "
                "begin anew"
            ) from None

    def save(self) -> None:
        """Write the file.

        Raises:
            InvalidValue: It cannot be written.
        """
        if self._path is None:
            return
        rules = {name: asdict(each) for name, each in self._rules.items()}
        content = json.dumps({"version": _VERSION, "rules": rules, "behind": self.behind}).encode()
        try:
            with new_file(self._path, f".{self._path.name}.partial") as file:
                file.write(content)
        except OSError as error:
            raise InvalidValue(f"{self._path}: expected a file that can be written: {error.strerror}") from None

    def rule(self, name: str, digest: str) -> RuleState:
        """Return the state of a rule, which begins now if it is new or has another condition.

        Args:
            name: Name of the rule.
            digest: Digest of its condition.
        """
        found = self._rules.get(name)
        if found is None or found.digest != digest:
            found = self._rules[name] = RuleState(digest, datetime.now(UTC).isoformat())
        return found

    def keep(self, names: set[str]) -> None:
        """Drop the state of other rules.

        Args:
            names: Names of the rules.
        """
        self._rules = {name: each for name, each in self._rules.items() if name in names}
