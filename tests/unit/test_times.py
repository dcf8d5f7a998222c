"""Times: `datetime` in UTC, and microseconds since 1970 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.times import from_micros, to_micros


@pytest.mark.parametrize(
    ("time", "micros"),
    [
        pytest.param(datetime(1970, 1, 1, tzinfo=UTC), 0, id="the epoch"),
        pytest.param(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0, id="the epoch in another zone"),
        pytest.param(datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1, id="before the epoch"),
        pytest.param(datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC), 1795395723456789, id="today"),
        pytest.param(datetime.max.replace(tzinfo=UTC), 253402300799999999, id="the largest time"),
    ],
)
def test_micros(time, micros):
    """A time is exact to the microsecond in both directions."""
    assert to_micros(time) == micros
    assert from_micros(micros) == time
    assert from_micros(micros).tzinfo is UTC


@pytest.mark.parametrize("micros", [2**63 - 1, -(2**63), 253402300800000000])
def test_micros_out_of_range(micros):
    """A time outside the years 1 to 9999 is an invalid value."""
    with pytest.raises(InvalidValue, match=f"outside years 1 to 9999: {micros} microseconds"):
        from_micros(micros)
