"""Statuses of trials and groups: the built-in ones, and those that users define."""

from __future__ import annotations

import enum

import pytest
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.status import CustomStatus, Status, status_of


def test_status_codes():
    """The codes of the built-in statuses never change: scripts and dashboards use them."""
    assert {status.name: status.value for status in Status} == {
        "CreatedGroup": 0,
        "RunningGroup": 100,
        "Running": 101,
        "ErrorGroup": 200,
        "Interrupted": 201,
        "Exception": 202,
        "Broken": 203,
        "FinishedGroup": 300,
        "Suspended": 301,
        "Completed": 302,
    }


def test_custom_status():
    """A custom status is a name and a number; the name of a built-in status is that status."""
    status = CustomStatus("Paused", 150)

    assert (status.name, status.value) == ("Paused", 150)
    assert status == CustomStatus("Paused", 150)
    assert status_of("Paused", 150) == status
    assert status_of("Completed", 302) is Status.Completed


class Code(enum.IntEnum):
    PAUSED = 150


@pytest.mark.parametrize(
    ("name", "value", "error", "reason"),
    [
        pytest.param("Running", 1, InvalidValue, "use Status.Running", id="the name of a built-in status"),
        pytest.param("a\0", 1, InvalidValue, "NUL", id="NUL in the name"),
        pytest.param(1, 1, InvalidType, "expected a str, got int", id="a name that is not a text"),
        pytest.param("a", 1.0, InvalidType, "expected an int as value, got float", id="a value that is not an int"),
        pytest.param("a", True, InvalidType, "expected an int as value, got bool", id="a value that is a bool"),
        pytest.param("a", Code.PAUSED, InvalidType, "expected an int as value, got Code", id="a value that is an enum"),
        pytest.param("a", 2**63, InvalidValue, "64 bits", id="a value beyond 64 bits"),
    ],
)
def test_custom_status_refuses(name, value, error, reason):
    """A status with the name of a built-in one, or that cannot be stored, is an error."""
    with pytest.raises(error, match=reason):
        CustomStatus(name, value)
