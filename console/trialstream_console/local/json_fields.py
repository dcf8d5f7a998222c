"""Fields of a JSON file, each checked for its type when it is taken: the file may hold anything."""

from __future__ import annotations

import json
import re
from pathlib import Path

from trialstream_schemas.messages import shown

from trialstream_console.local.errors import LocalStackError

__all__ = ["Fields"]

_MAX_TEXT = 64 * 1024  # characters; an error has the end of a log


class Fields:
    """The fields of a JSON object.

    Args:
        file: Path of the file, for messages.
        content: The object.
        remedy: What to do about a damaged file, for messages.
        within: Path of the object in the file, for messages.

    Raises:
        LocalStackError: It is no JSON object.
    """

    def __init__(self, file: Path, content: object, remedy: str, within: str = "") -> None:
        self._file = file
        self._remedy = remedy
        self._within = within
        if not isinstance(content, dict):
            raise self._wrong("", "an object", content)
        self._content = content

    @classmethod
    def of(cls, file: Path, content: bytes, remedy: str) -> Fields:
        """Return the fields of the object in a file.

        Args:
            file: Path of the file, for messages.
            content: The bytes of the file.
            remedy: What to do about a damaged file, for messages.

        Raises:
            LocalStackError: It is no JSON object.
        """
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise LocalStackError(f"{file} cannot be read ({type(error).__name__}: {error}): {remedy}") from error
        return cls(file, found, remedy)

    def text(self, name: str, pattern: str = r"(?s:.*)", wanted: str = "a text") -> str:
        """Return a text.

        Args:
            name: Name of the field.
            pattern: Regular expression that it matches as a whole.
            wanted: What the pattern matches, for the message.

        Raises:
            LocalStackError: The field has another value.
        """
        found = self._content.get(name)
        if not isinstance(found, str) or len(found) > _MAX_TEXT or not re.fullmatch(pattern, found):
            raise self._wrong(name, wanted, found)
        return found

    def whole(self, name: str, least: int, most: int) -> int:
        """Return an integer.

        Args:
            name: Name of the field.
            least: The smallest one.
            most: The largest one.

        Raises:
            LocalStackError: The field has another value.
        """
        found = self._content.get(name)
        if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
            raise self._wrong(name, f"an integer from {least} to {most}", found)
        return found

    def seconds(self, name: str) -> float:
        """Return a number of seconds, not negative.

        Args:
            name: Name of the field.

        Raises:
            LocalStackError: The field has another value.
        """
        found = self._content.get(name)
        # An integer of hundreds of digits fits no double.
        if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found < 2**53:
            raise self._wrong(name, "a number of seconds", found)
        return float(found)

    def flag(self, name: str) -> bool:
        """Return a bool.

        Args:
            name: Name of the field.

        Raises:
            LocalStackError: The field has another value.
        """
        found = self._content.get(name)
        if not isinstance(found, bool):
            raise self._wrong(name, "true or false", found)
        return found

    def fields(self, name: str) -> Fields:
        """Return the fields of an object.

        Args:
            name: Name of the field.

        Raises:
            LocalStackError: The field has another value.
        """
        return Fields(self._file, self._content.get(name), self._remedy, self._path(name))

    def has(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return name in self._content

    def _path(self, name: str) -> str:
        return ".".join(filter(None, (self._within, name)))

    def _wrong(self, name: str, wanted: str, found: object) -> LocalStackError:
        where = f" {path}:" if (path := self._path(name)) else ""
        return LocalStackError(f"{self._file}:{where} expected {wanted}, got {shown(found)}: {self._remedy}")
