"""The error of the query language."""

from __future__ import annotations

from trialstream_schemas.errors import InvalidValue

__all__ = ["WhereError"]


class WhereError(InvalidValue):
    """A text of the query language cannot be read; the message says what was expected, and at which column.

    Args:
        message: What was expected, and what was found.
        column: Index of the character of the text at which the fault is, from 0.
        name: Name of the text.

    Attributes:
        column: As the argument.
        place: As `name`.
        reason: The message without the name and the column.
    """

    def __init__(self, message: str, column: int, name: str = "where") -> None:
        super().__init__(f"{name}, column {column}: {message}")
        self.column = column
        self.reason = message
        self.place = name

    def __reduce__(self) -> tuple[type[WhereError], tuple[str, int, str]]:
        return WhereError, (self.reason, self.column, self.place)
