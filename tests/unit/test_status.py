"""Statuses of trials and groups: the built-in ones, and those that users define."""

from __future__ import annotations

import copy
import enum
import pickle

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


def test_the_text_of_a_status():
    """`str()` of a status is its name, as in the console's output and in queries; its repr has the code too."""
    assert [str(each) for each in Status] == list(Status.__members__)
    assert (f"{Status.Running}", repr(Status.Running)) == ("Running", "<Status.Running: 101>")
    assert (str(CustomStatus("Paused", 150)), repr(CustomStatus("Paused", 150))) == (
        "Paused",
        "CustomStatus(name='Paused', value=150)",
    )


@pytest.mark.parametrize("name", ["running", "COMPLETED", "errorgroup", "cOmpleted"])
def test_a_stored_status_may_differ_in_case_only(name):
    """A status that an earlier version accepted can be read, copied and compared; new ones are refused."""
    status = status_of(name, 1)

    assert (status.name, status.value, type(status)) == (name, 1, CustomStatus)
    assert status == copy.deepcopy(status) == pickle.loads(pickle.dumps(status))
    assert hash(status) == hash(status_of(name, 1))
    with pytest.raises(InvalidValue, match=rf"^status '{name}': expected a name of your own, .* use Status\.[A-Z]"):
        CustomStatus(name, 1)


def test_a_stored_status_is_checked():
    """A stored status that cannot be stored again is an error."""
    with pytest.raises(InvalidValue, match="NUL"):
        status_of("a\0", 1)
    with pytest.raises(InvalidValue, match="64 bits"):
        status_of("a", 2**63)


class Code(enum.IntEnum):
    PAUSED = 150


@pytest.mark.parametrize(
    ("name", "value", "error", "reason"),
    [
        pytest.param("Running", 1, InvalidValue, "use Status.Running", id="the name of a built-in status"),
        pytest.param("running", 1, InvalidValue, "use Status.Running", id="a built-in name in lower case"),
        pytest.param("SUSPENDED", 1, InvalidValue, "use Status.Suspended", id="a built-in name in upper case"),
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
