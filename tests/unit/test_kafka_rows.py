"""The checks of rows of metrics."""

from __future__ import annotations

import numpy as np
import pytest
from trialstream.kafka.row_log import RowLog
from trialstream.kafka.rows import RowChecks
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.outbox import Outbox
from trialstream.pipeline.watermark import Watermark
from trialstream_schemas.errors import InvalidType
from trialstream_schemas.model.trial import Trial

TRIAL = Trial(name="t")


class Box:
    """Row checks over an outbox, with the warnings that they gave."""

    def __init__(self):
        backlog = Backlog(Watermark(), lambda: None, lambda: None, spill_bytes=2**63)
        self.outbox = Outbox("w" * 16, backlog, lambda: None, max_bytes=10**9, linger=3600.0)
        self.warnings = []
        self.rows = RowLog(self.outbox, RowChecks(self.warnings.append))

    def row(self, step=None, **values):
        """Check and append a row, and return its values."""
        self.rows.prepare(TRIAL, TRIAL.uid, step, None, values)()
        self.outbox.take()
        [frame] = self.outbox._open[TRIAL.uid]
        return [column[-1] for column in frame.event("w").columns]


class Tensor:
    """A scalar like torch's, which item() returns."""

    def __init__(self, inner):
        self.inner = inner

    def item(self):
        """Return the scalar."""
        return self.inner

    def __repr__(self):
        return f"Tensor({self.inner!r})"


@pytest.fixture
def box():
    """Row checks without a connection."""
    return Box()


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(2**53 + 1, id="an integer"),
        pytest.param(-(2**53) - 1, id="a negative integer"),
        pytest.param(10**17 + 1, id="a large integer"),
        pytest.param(np.int64(2**53 + 1), id="a numpy integer"),
        pytest.param(np.uint64(2**64 - 1), id="the largest numpy integer"),
        pytest.param(np.array([2**53 + 1]), id="an array of one"),
        pytest.param(Tensor(2**53 + 1), id="anything with item()"),
    ],
)
def test_an_integer_that_loses_digits(box, x):
    """An integer that no double represents is logged as the nearest double, with a warning that names the metric."""
    found = box.row(samples=x, loss=0.5)

    assert found == [float(x if isinstance(x, int) else x.item()), 0.5]
    [message] = box.warnings
    assert message.startswith("trialstream: metric 'samples': an integer beyond 2**53 loses digits as a double")


@pytest.mark.parametrize(
    "x",
    [
        *(2**53, -(2**53), 2**53 + 2, 2**70, True, 1e300, float("inf"), float("nan")),
        *(np.int64(2**53), np.float32(1e30), np.longdouble(2**60), np.array(1e30), Tensor(1e30)),
    ],
    ids=repr,
)
def test_a_number_that_is_a_double(box, x):
    """A number that a double represents, or that is no integer, is logged without a warning."""
    box.row(samples=x)

    assert box.warnings == []


def test_a_time_as_a_metric(box):
    """A time of numpy is refused as a metric and as a step, and nothing is logged."""
    with pytest.raises(InvalidType, match=r"^metric 'at': expected a number, got numpy\.datetime64: pass x\.astype"):
        box.row(at=np.datetime64("2026-01-01", "ns"))
    with pytest.raises(InvalidType, match=r"^step: expected .* got numpy\.timedelta64: pass "):
        box.row(step=np.timedelta64(1, "ns"), loss=1.0)

    assert box.outbox._open == {}
