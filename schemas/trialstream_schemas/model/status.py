"""Statuses of trials and groups: the built-in ones, and those that users define."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Self

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.caches import ByteCache, texts_bytes
from trialstream_schemas.model.values import INT64_MAX, INT64_MIN, check_name

__all__ = ["CustomStatus", "Status", "status_of"]


class Status(Enum):
    """Built-in status of a trial or a group.

    The hundreds of the value are the phase: 0 created, 100 running, 200 failed, 300 ended. `str()` is the name. A trial
    that is created without a status has `CreatedGroup`.
    """

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

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class CustomStatus:
    """A status that the user defines. `str()` is the name.

    Attributes:
        name: Name of the status, which no member of `Status` has, whether in upper or lower case.
        value: Code of the status, an integer of 64 bits.

    Raises:
        InvalidType: The name is not a str, or the value is not an int.
        InvalidValue: A member of `Status` has the name, or one that differs in case only; the name cannot be stored; or
            the value does not fit 64 bits.
    """

    name: str
    value: int

    def __post_init__(self) -> None:
        self._check()
        if (built_in := _BUILT_IN.get(self.name.casefold())) is not None:
            raise InvalidValue(
                f"status {self.name!r}: expected a name of your own, got a built-in one; use Status.{built_in}"
            )

    def __str__(self) -> str:
        return self.name

    @classmethod
    def stored(cls, name: str, value: int) -> Self:
        """The status of a document or an event.

        Its name may differ from a built-in one in case only, since earlier versions have accepted such names.

        Args:
            name: Name of the status.
            value: Code of the status.

        Raises:
            InvalidValue: The name cannot be stored, or the value does not fit 64 bits.
        """
        status = object.__new__(cls)
        object.__setattr__(status, "name", name)  # the class is frozen
        object.__setattr__(status, "value", value)
        status._check()
        return status

    def _check(self) -> None:
        check_name(self.name, "status")
        if type(self.value) is not int:
            raise InvalidType(f"status {self.name!r}: expected an int as value, got {type(self.value).__name__}")
        if not INT64_MIN <= self.value <= INT64_MAX:
            raise InvalidValue(
                f"status {self.name!r}: expected a value of 64 bits, got an int of {self.value.bit_length()} bits"
            )


_BUILT_IN = {name.casefold(): name for name in Status.__members__}


# A fetch of trials has a few statuses, many times each. A custom one has its name and its value.
_statuses: ByteCache[tuple[str, int], Status | CustomStatus] = ByteCache(256 * 1024)


def status_of(name: str, code: int) -> Status | CustomStatus:
    """The status of a document or an event.

    Args:
        name: Name of the status.
        code: Value of the status; used for a custom status only.
    """
    known = _statuses.get((name, code))
    if known is None:
        known = _made_status(name, code)
        _statuses.keep((name, code), known, texts_bytes([name]))
    return known


def _made_status(name: str, code: int) -> Status | CustomStatus:
    return Status[name] if name in Status.__members__ else CustomStatus.stored(name, code)
