"""Statuses of trials and groups: the built-in ones and those of users."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.values import INT64_MAX, INT64_MIN, check_name

__all__ = ["CustomStatus", "Status", "status_of"]


class Status(Enum):
    """What a trial or group is doing; the hundreds say the kind: created, running, failed, ended."""

    CreatedGroup = 0
    RunningGroup = 100
    Running = 101
    ErrorGroup = 200
    Interrupted = 201
    Exception = 202
    Broken = 203
    FinishedGroup = 300
    Suspended = 301
    Completed = 302


@dataclass(frozen=True)
class CustomStatus:
    """A status of the user's own.

    Raises:
        InvalidValue: the name is one of `Status`, or the value does not fit 64 bits.
    """

    name: str
    value: int

    def __post_init__(self) -> None:
        check_name(self.name, "status")
        if type(self.value) is not int:
            raise InvalidType(f"status {self.name!r}: the value must be an int, not {type(self.value).__name__}")
        if not INT64_MIN <= self.value <= INT64_MAX:
            raise InvalidValue(f"status {self.name!r}: the value does not fit 64 bits")
        if self.name in Status.__members__:
            raise InvalidValue(f"status {self.name!r} is built in: use Status.{self.name}")


def status_of(name: str, code: int) -> Status | CustomStatus:
    """The status that a document or an event names."""
    return Status[name] if name in Status.__members__ else CustomStatus(name, code)
