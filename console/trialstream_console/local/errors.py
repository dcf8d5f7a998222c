"""Exceptions of the local stack. This module imports no optional dependency."""

from __future__ import annotations

from trialstream_schemas.errors import TrialStreamError

__all__ = ["Interrupted", "LocalStackError"]


class LocalStackError(TrialStreamError):
    """The local stack could not be started, found or stopped; the message says what to do."""

    _is_one_line = False  # it quotes the end of a log


class Interrupted(BaseException):
    """A signal requested shutdown; the command ends with exit code 128 + `number`.

    Attributes:
        number: Signal number.
    """

    def __init__(self, number: int) -> None:
        super().__init__("")
        self.number = number
