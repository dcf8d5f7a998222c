"""Conversion of times: `datetime` in UTC to microseconds since 1970 UTC, as in events and documents, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from trialstream_schemas.errors import InvalidValue

__all__ = ["check_micros", "from_micros", "to_micros"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(time: datetime) -> int:
    """Convert a time to microseconds since 1970 UTC.

    Args:
        time: The time; a time without a time zone is local time, as for `datetime`.
    """
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Convert microseconds since 1970 UTC to a time in UTC.

    Args:
        micros: Microseconds since 1970 UTC.

    Raises:
        InvalidValue: The time is outside the years 1 to 9999.
    """
    try:
        return _EPOCH + timedelta(0, 0, micros)
    except OverflowError:
        raise InvalidValue(_out_of_range(micros)) from None


def check_micros(micros: int) -> None:
    """Check that `from_micros` accepts a number of microseconds, without making the `datetime`.

    Args:
        micros: Microseconds since 1970 UTC.

    Raises:
        InvalidValue: The time is outside the years 1 to 9999.
    """
    if not _FIRST_MICROS <= micros <= _LAST_MICROS:
        raise InvalidValue(_out_of_range(micros))


def _out_of_range(micros: int) -> str:
    return f"timestamp outside years 1 to 9999: {micros} microseconds since 1970"


# The first and the last time that `datetime` can represent.
_FIRST_MICROS = to_micros(datetime.min.replace(tzinfo=UTC))
_LAST_MICROS = to_micros(datetime.max.replace(tzinfo=UTC))
