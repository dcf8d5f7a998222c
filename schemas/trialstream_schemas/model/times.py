"""Times: `datetime` in UTC and the microseconds since 1970 that events and documents hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from trialstream_schemas.errors import InvalidValue

__all__ = ["check_micros", "from_micros", "to_micros"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(time: datetime) -> int:
    """Microseconds since 1970 UTC; a time without a zone is taken as local, as `datetime` does."""
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The time, in UTC, that lies that many microseconds after 1970.

    Raises:
        InvalidValue: it is before the year 1 or after the year 9999.
    """
    check_micros(micros)
    return _EPOCH + timedelta(microseconds=micros)


def check_micros(micros: int) -> None:
    """Check that a time lies in the calendar, without making it.

    Raises:
        InvalidValue: see `from_micros`.
    """
    if not _FIRST_MICROS <= micros <= _LAST_MICROS:
        raise InvalidValue(f"no calendar reaches {micros} microseconds from 1970")


# The first and the last microsecond of `datetime`.
_FIRST_MICROS = to_micros(datetime.min.replace(tzinfo=UTC))
_LAST_MICROS = to_micros(datetime.max.replace(tzinfo=UTC))
