"""Strict reading of the tables of a TOML file: each key is known, has the right type, and errors name table and key."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from trialstream_schemas.errors import ConfigError
from trialstream_schemas.messages import shown

__all__ = ["Table"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Table:
    """A table, whose keys are taken one by one; `finish` refuses those that were not taken.

    Args:
        name: Name of the table, for errors.
        given: The table.

    Raises:
        ConfigError: It is no table. All methods raise it for a missing key and a wrong value.
    """

    def __init__(self, name: str, given: object) -> None:
        if not isinstance(given, Mapping):
            raise ConfigError(f"{name}: expected a table, got {shown(given)}")
        self.name = name
        self._given = given
        self._known: dict[str, None] = {}

    def fail(self, key: str, expected: str) -> ConfigError:
        """Return the error of a value.

        Args:
            key: The key.
            expected: What was expected.
        """
        got = f"got {shown(self._given[key])}" if key in self._given else "got nothing"
        return ConfigError(f"{self.name}: {key}: expected {expected}, {got}")

    def has(self, key: str) -> bool:
        """Whether a key is there; it counts as known."""
        self._known[key] = None
        return key in self._given

    def _get(self, key: str, kind: type | tuple[type, ...], expected: str) -> Any:
        found = self._given[key] if self.has(key) else None
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise self.fail(key, expected)
        return found

    def text(self, key: str, choices: Collection[str] = ()) -> str:
        """Take a text that is not empty, and one of the choices, if there are any."""
        expected = f"one of {', '.join(choices)}" if choices else "a text"
        found: str = self._get(key, str, expected)
        if not found or "\0" in found or (choices and found not in choices):
            raise self.fail(key, expected)
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of at least one text."""
        found = self._get(key, list, "a list of texts")
        if not found or not all(isinstance(each, str) and each and "\0" not in each for each in found):
            raise self.fail(key, "a list of texts")
        return tuple(found)

    def flag(self, key: str, *, default: bool) -> bool:
        """Take a boolean."""
        return bool(self._get(key, bool, "true or false")) if self.has(key) else default

    def number(self, key: str) -> float:
        """Take a finite number."""
        found = self._get(key, (int, float), "a number")
        if not math.isfinite(found):
            raise self.fail(key, "a number")
        return float(found)

    def count(self, key: str, default: int | None = None, *, most: int = 2**63 - 1) -> int:
        """Take a whole number from 0 to a maximum; required if there is no default."""
        if default is not None and not self.has(key):
            return default
        expected = "a whole number" if most == 2**63 - 1 else f"a whole number from 0 to {most}"
        found: int = self._get(key, int, expected)
        if not 0 <= found <= most:
            raise self.fail(key, expected)
        return found

    def seconds(self, key: str, default: float | None = None) -> float:
        """Take a duration, such as "10m", or a number of seconds; required if there is no default."""
        if default is not None and not self.has(key):
            return default
        expected = 'a duration such as "90s", "10m" or "2h", or a number of seconds, above 0'
        found = self._get(key, (str, int, float), expected)
        if isinstance(found, str):
            parts = _DURATION.fullmatch(found)
            if parts is None:
                raise self.fail(key, expected)
            found = float(parts[1]) * _SECONDS[parts[2]]
        if not 0 < found < 1e9:
            raise self.fail(key, expected)
        return float(found)

    def tables(self, key: str) -> dict[str, object]:
        """Take a table of tables."""
        found = self._get(key, dict, f"tables [{key}.NAME]")
        return dict(found)

    def finish(self) -> None:
        """Refuse the keys that were not taken."""
        for key in self._given:
            if key not in self._known:
                raise ConfigError(f"{self.name}: {shown(key)}: no such key; expected {', '.join(self._known)}")
