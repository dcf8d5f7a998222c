"""Projects, groups, trials and their status."""

from __future__ import annotations

import copy
import enum
from datetime import UTC, datetime, timedelta, timezone

import pytest
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.status import CustomStatus, Status, status_of
from trialstream_schemas.model.times import from_micros, to_micros
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

STRUCTURES = [pytest.param(each, id=each.__name__) for each in (Project, TrialGroup, Trial)]


def test_status_codes():
    """Each status has the code that scripts and dashboards know it by."""
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
    """A status of the user's own is a name and a number."""
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
        pytest.param("Running", 1, InvalidValue, "use Status.Running", id="the name of a built-in one"),
        pytest.param("a\0", 1, InvalidValue, "NUL", id="NUL in the name"),
        pytest.param(1, 1, InvalidType, "must be a str", id="a name that is no text"),
        pytest.param("a", 1.0, InvalidType, "must be an int", id="a value that is no int"),
        pytest.param("a", True, InvalidType, "must be an int", id="a value that is a bool"),
        pytest.param("a", Code.PAUSED, InvalidType, "must be an int", id="a value that is an enum"),
        pytest.param("a", 2**63, InvalidValue, "64 bits", id="a value beyond 64 bits"),
    ],
)
def test_custom_status_refuses(name, value, error, reason):
    """A status that could not be told from another, or not be stored, is refused."""
    with pytest.raises(error, match=reason):
        CustomStatus(name, value)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    ("given", "error", "reason"),
    [
        pytest.param({"name": ""}, InvalidValue, "name is empty", id="empty name"),
        pytest.param({"name": 1}, InvalidType, "name: a name must be a str", id="name that is no text"),
        pytest.param({"name": "a\0"}, InvalidValue, r"name 'a\\x00': a name cannot hold NUL", id="NUL in the name"),
        pytest.param({"name": "x" * 1025}, InvalidValue, "name .*: a name can have 1024 bytes", id="name too long"),
        pytest.param({"description": None}, InvalidType, "description: a str is needed", id="description of None"),
        pytest.param({"description": "\ud800"}, InvalidValue, "description: .*surrogate", id="surrogate"),
        pytest.param({"description": "x" * 65537}, InvalidValue, "description: .*65536", id="description too long"),
        pytest.param({"metadata": {"a": object()}}, InvalidType, r"metadata\.a: ", id="object in the metadata"),
        pytest.param({"tags": {"a": {"b": 2**64}}}, InvalidValue, r"tags\.a\.b: ", id="big integer in the tags"),
        pytest.param({"tags": ["a"]}, InvalidType, "tags: a dict is needed", id="tags that are a list"),
    ],
)
def test_structure_refuses(structure, given, error, reason):
    """What cannot be logged is refused when the object is made, with the path of the field."""
    with pytest.raises(error, match=rf"^{structure.__name__}\.{reason}"):
        structure(**{"name": "n"} | given)


@pytest.mark.parametrize(
    ("structure", "field"),
    [
        pytest.param(TrialGroup, "project_id", id="project of a group"),
        pytest.param(Trial, "project_id", id="project of a trial"),
        pytest.param(Trial, "group_id", id="group of a trial"),
        pytest.param(Trial, "version", id="version of a trial"),
    ],
)
def test_optional_names(structure, field):
    """An optional name is None or text; an object in place of its uid is a clear error."""
    assert getattr(structure(name="n"), field) is None
    assert getattr(structure(name="n", **{field: "x"}), field) == "x"

    with pytest.raises(InvalidType, match=rf"^{structure.__name__}\.{field}: a name must be a str, not Project$"):
        structure(name="n", **{field: Project(name="p")})


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structure_is_a_plain_value(structure):
    """Two of the same fields are equal, a copy is equal, and what was given is not shared."""
    metadata = {"a": [1]}
    one = structure(name="n", metadata=metadata)
    other = structure(name="n", metadata={"a": (1,)})

    metadata["a"].append(2)

    assert one == other
    assert copy.deepcopy(one) == one
    assert one.metadata == {"a": [1]}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structure_takes_keywords_only(structure):
    """Fields are given by name, so none can be mixed up and more can be added."""
    with pytest.raises(TypeError):
        structure("n")


def test_trial_is_hashed_once():
    """A trial that has a hash keeps it, and is not checked again: it was when it was created."""
    trial = Trial(name="", hash="0" * 32, revision=2)

    assert trial.uid == "0" * 32 + "_2"


def test_trial_that_was_never_fetched():
    """What only the log knows is empty until an object is fetched."""
    trial = Trial(name="t")

    assert (trial.status, trial.created, trial.started, trial.finished) == (None, None, None, None)
    assert (trial.metrics, trial.chronos, trial.errors, trial.lost_events) == ({}, {}, [], 0)


@pytest.mark.parametrize(
    ("time", "micros"),
    [
        pytest.param(datetime(1970, 1, 1, tzinfo=UTC), 0, id="the epoch"),
        pytest.param(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0, id="the epoch in another zone"),
        pytest.param(datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1, id="before the epoch"),
        pytest.param(datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC), 1795395723456789, id="today"),
        pytest.param(datetime.max.replace(tzinfo=UTC), 253402300799999999, id="the end of time"),
    ],
)
def test_micros(time, micros):
    """A time is exact to the microsecond in both directions."""
    assert to_micros(time) == micros
    assert from_micros(micros) == time
    assert from_micros(micros).tzinfo is UTC


@pytest.mark.parametrize("micros", [2**63 - 1, -(2**63), 253402300800000000])
def test_micros_out_of_range(micros):
    """A time that no calendar has is an invalid value."""
    with pytest.raises(InvalidValue, match=f"{micros} microseconds"):
        from_micros(micros)
