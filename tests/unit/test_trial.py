"""Projects, groups and trials: their checks, equality and copies."""

from __future__ import annotations

import copy
import dataclasses
import enum

import numpy as np
import pytest
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

STRUCTURES = [pytest.param(each, id=each.__name__) for each in (Project, TrialGroup, Trial)]


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    ("given", "error", "reason"),
    [
        pytest.param({"name": ""}, InvalidValue, "name: expected a name, got an empty str", id="empty name"),
        pytest.param({"name": 1}, InvalidType, "name: expected a str, got int", id="name that is not a text"),
        pytest.param(
            {"name": "a\0"}, InvalidValue, r"name 'a\\x00': expected a name without NUL", id="NUL in the name"
        ),
        pytest.param(
            {"name": "x" * 1025},
            InvalidValue,
            "name .*: expected at most 1024 bytes in UTF-8, got 1025",
            id="name too long",
        ),
        pytest.param(
            {"description": 1}, InvalidType, "description: expected a str, got int", id="description that is a number"
        ),
        pytest.param({"description": "\ud800"}, InvalidValue, "description: .*surrogate", id="surrogate"),
        pytest.param(
            {"description": "x" * 65537},
            InvalidValue,
            "description: expected at most 65536 bytes .*65537",
            id="description too long",
        ),
        pytest.param({"metadata": {"a": object()}}, InvalidType, r"metadata\.a: ", id="object in the metadata"),
        pytest.param({"tags": {"a": {"b": 2**64}}}, InvalidValue, r"tags\.a\.b: ", id="big integer in the tags"),
        pytest.param({"tags": ["a"]}, InvalidType, "tags: expected a dict, got list", id="tags that are a list"),
    ],
)
def test_structure_refuses(structure, given, error, reason):
    """A field that cannot be logged is an error when the object is made; the message names the field."""
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
    """An optional name is None or a str; an object in place of its uid is an error that names the field."""
    assert getattr(structure(name="n"), field) is None
    assert getattr(structure(name="n", **{field: "x"}), field) == "x"

    with pytest.raises(InvalidType, match=rf"^{structure.__name__}\.{field}: expected a str, got Project$"):
        structure(name="n", **{field: Project(name="p")})


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_description_of_none_is_empty(structure):
    """A description of None is the empty text."""
    assert structure(name="n", description=None) == structure(name="n")


@pytest.mark.parametrize(
    ("version", "text"),
    [
        pytest.param(3, "3", id="int"),
        pytest.param(-1, "-1", id="negative int"),
        pytest.param(1.10, "1.1", id="float"),
        pytest.param(2.0, "2.0", id="whole float"),
        pytest.param(np.int64(3), "3", id="numpy integer"),
        pytest.param(np.float64(0.5), "0.5", id="numpy float"),
        pytest.param(enum.IntEnum("Version", {"TWO": 2})(2), "2", id="member of an IntEnum"),
        pytest.param("", "", id="empty text"),
    ],
)
def test_a_version_that_is_a_number_is_its_text(version, text):
    """A trial whose version is a number is the trial whose version is the text of the number."""
    trial = Trial(name="n", version=version)

    assert trial.version == text
    assert type(trial.version) is str
    assert trial.uid == Trial(name="n", version=text).uid


@pytest.mark.parametrize(
    "version", [True, np.bool_(False), b"1", [1], {"a": 1}, object()], ids=lambda each: type(each).__name__
)
def test_a_version_that_is_no_text_and_no_number_is_refused(version):
    """A version of any other type, such as a bool, is an error that names the field."""
    with pytest.raises(InvalidType, match=r"^Trial\.version: expected"):
        Trial(name="n", version=version)


@pytest.mark.parametrize("version", [10**5000, float("nan"), np.float32("inf")], ids=["huge", "NaN", "infinity"])
def test_a_version_without_a_text_is_refused(version):
    """A version that is a number of more than 64 bits, or not finite, is an error that names the field."""
    with pytest.raises(InvalidValue, match=r"^Trial\.version: expected"):
        Trial(name="n", version=version)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structure_is_a_plain_value(structure):
    """Objects with equal fields are equal, a copy is equal, and arguments are copied."""
    metadata = {"a": [1]}
    one = structure(name="n", metadata=metadata)
    other = structure(name="n", metadata={"a": (1,)})

    metadata["a"].append(2)

    assert one == other
    assert copy.deepcopy(one) == one
    assert one.metadata == {"a": [1]}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures_in_a_set(structure):
    """Equal objects have equal hashes, and objects of other uids are other members of a set."""
    one, equal, other = structure(name="n", tags={"a": 1}), structure(name="n", tags={"a": 1}), structure(name="m")
    same_uid = structure(name="n")

    assert len({one, equal, other}) == 2
    assert hash(one) == hash(same_uid) == hash(one.uid)
    assert len({one, same_uid}) == 2  # equality compares all fields


def test_trials_of_one_definition_in_a_set():
    """Revisions of one definition, and an undecided one, have other uids, and so are not equal."""
    trial = Trial(name="n")
    others = [dataclasses.replace(trial, revision=1), dataclasses.replace(trial, request="0" * 24)]

    assert len({trial, *others}) == 3
    assert len({each.uid for each in (trial, *others)}) == 3


@pytest.mark.parametrize("structure", STRUCTURES)
def test_equal_structures_have_one_uid(structure):
    """Every field that the uid is made of is part of the equality."""
    compared = {each.name for each in dataclasses.fields(structure) if each.compare}
    made_of = {Project: {"name"}, TrialGroup: {"name", "project_id"}, Trial: {"hash", "revision", "request"}}

    assert made_of[structure] <= compared


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structure_takes_keywords_only(structure):
    """Fields are keywords only, so that they cannot be mixed up and fields can be added."""
    with pytest.raises(TypeError):
        structure("n")


def test_trial_is_hashed_once():
    """A trial that has a hash keeps it, and its fields are not checked again."""
    trial = Trial(name="", hash="0" * 32, revision=2)

    assert trial.uid == "0" * 32 + "_2"


def test_trial_that_was_never_fetched():
    """Fields that only the log can fill are empty until the object is fetched."""
    trial = Trial(name="t")

    assert (trial.status, trial.created, trial.started, trial.finished) == (None, None, None, None)
    assert (trial.metrics, trial.chronos, trial.errors, trial.lost_events) == ({}, {}, [], 0)
