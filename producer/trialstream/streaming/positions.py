"""Positions in a log: where a stream begins, and where it was left."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TypeAlias

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.messages import shown
from trialstream_schemas.model.times import to_micros

__all__ = ["BEGIN", "NOW", "Bound", "Position", "Since", "checked_since"]

# As in `trialstream.event_log.identity`: the id of a log.
_LOG_CHARACTERS = 64
_MAX_OFFSET = 2**63 - 1


class Bound(Enum):
    """A place at which a stream can begin.

    Attributes:
        BEGIN: Before the first event of the log.
        NOW: After the last event that the log holds when the stream is opened.
    """

    BEGIN = "begin"
    NOW = "now"


BEGIN = Bound.BEGIN
"""Before the first event of the log."""
NOW = Bound.NOW
"""After the last event that the log holds when the stream is opened."""


@dataclass(frozen=True)
class Position:
    """A position in a log: what a stream has returned, and what is still to come.

    It is a small value: `str(position)` is a text, and `Position.parse` reads it back.

    Attributes:
        log: Id of the log.
        registry: Offset of the next event of the registry.
        trials: Offset of the next event of each partition of the trials topic.
        rows: Of an event that was returned in part, one row after the other: by partition, the number of its rows that
            were returned.
    """

    log: str
    registry: int
    trials: tuple[int, ...]
    rows: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the position as a JSON object on one line."""
        fields = {"log": self.log, "registry": self.registry, "trials": self.trials}
        if self.rows:
            fields["rows"] = {str(partition): count for partition, count in self.rows.items()}
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read a position back.

        Args:
            text: What `str` returned for it.

        Returns:
            The position.

        Raises:
            InvalidValue: The text is no position.
        """
        try:
            found = json.loads(text)
            rows = {int(partition): count for partition, count in found.get("rows", {}).items()}
            position = cls(found["log"], found["registry"], tuple(found["trials"]), rows)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidValue(f"position: expected the text of a position, got {shown(text)}") from error
        numbers = [position.registry, *position.trials, *rows.values()]
        if (
            not isinstance(position.log, str)
            or len(position.log) > _LOG_CHARACTERS
            or not position.trials
            or not all([type(each) is int and 0 <= each <= _MAX_OFFSET for each in numbers])
            or not all([0 <= partition < len(position.trials) for partition in rows])
        ):
            raise InvalidValue(f"position: expected the text of a position, got {shown(text)}")
        return position


Since: TypeAlias = Bound | Position | datetime | str
"""Place where a stream begins: `BEGIN`, `NOW`, a position or its text, or a time, as a `datetime` or in ISO 8601."""


def checked_since(given: Since, name: str) -> Bound | Position | int:
    """Check where a stream begins or ends.

    Args:
        given: The place.
        name: Name of the argument, for messages.

    Returns:
        The place; a time as milliseconds since 1970 UTC. A text without an offset is in UTC, a `datetime` without
        a time zone in local time.

    Raises:
        InvalidType: The place has another type.
        InvalidValue: A text is neither a position nor a time.
    """
    if isinstance(given, Bound | Position):
        return given
    time = given
    if isinstance(given, str):
        if given.lstrip().startswith("{"):
            return Position.parse(given)
        try:
            time = datetime.fromisoformat(given)
            time = time.replace(tzinfo=time.tzinfo or UTC)
        except ValueError:
            raise InvalidValue(
                f"{name}: expected a time in ISO 8601 such as 2026-07-01T12:00:00Z, or a position, got {shown(given)}"
            ) from None
    if not isinstance(time, datetime):
        raise InvalidType(
            f"{name}: expected BEGIN, NOW, a Position, a datetime, or a text of the latter two, got {shown(given)}"
        )
    # Rounded up: the log counts milliseconds, and an event of an earlier one is before the time.
    return -(-to_micros(time) // 1000)
