"""Identity: definitions that are the same trial have the same hash, and different ones differ."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
from trialstream_schemas.model.identity import canonical, digest, trial_hash
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

PAIRS = [
    pytest.param(65, "A", id="a number and the letter of that code"),
    pytest.param(True, 1, id="True and 1"),
    pytest.param(False, 0, id="False and 0"),
    pytest.param(1, 1.0, id="1 and 1.0"),
    pytest.param(1, "1", id="a number and its digits"),
    pytest.param("", None, id="empty text and None"),
    pytest.param("a", b"a", id="text and bytes"),
    pytest.param(["a", "b"], "ab", id="a list of letters and a text"),
    pytest.param(["ab", "c"], ["a", "bc"], id="a list cut elsewhere"),
    pytest.param(["a", ["b"]], ["a", "b"], id="a nested list and a flat one"),
    pytest.param([[], []], [[[]]], id="two empty lists and a nested one"),
    pytest.param([1, 2], [2, 1], id="a list in another order"),
    pytest.param([], {}, id="an empty list and an empty dict"),
    pytest.param([], None, id="an empty list and None"),
    pytest.param(["a", 1], {"a": 1}, id="a list of pairs and a dict"),
    pytest.param({"a": {"b": 1}}, {"a.b": 1}, id="a nested dict and a dotted key"),
    pytest.param({"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "c": 2}}, id="a dict nested otherwise"),
    pytest.param({"a": "b"}, {"b": "a"}, id="a dict turned round"),
    pytest.param({"a": "1"}, {"a1": ""}, id="a key that runs into its value"),
    pytest.param({"a": None}, {}, id="a key of None and no key"),
    pytest.param(5, -5, id="a number and its negative"),
    pytest.param(2**62, 2**62 + 1, id="big integers"),
    pytest.param(2**53 + 1, float(2**53 + 1), id="a big integer and the double nearest to it"),
    pytest.param(0.0, -0.0, id="0.0 and -0.0"),
    pytest.param(math.inf, -math.inf, id="inf and -inf"),
    pytest.param(math.nan, "nan", id="NaN and its name"),
    pytest.param("é", "e\u0301", id="Unicode composed and decomposed"),
    pytest.param("i1:1", 1, id="the encoding of a number and the number"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_different_parameters_have_different_hashes(one, other):
    """Parameters that differ in any way make different trials, also inside a list or a dict."""
    assert canonical(one) != canonical(other)
    for wrap in (lambda x: x, lambda x: [x], lambda x: {"k": [x, x]}):
        assert Trial(name="t", parameters={"x": wrap(one)}).hash != Trial(name="t", parameters={"x": wrap(other)}).hash


def test_all_values_have_different_hashes():
    """No two different values of all the pairs share a hash."""
    every = [x for pair in PAIRS for x in pair.values]
    different = {repr(x) for x in every}

    assert len({digest(x) for x in every}) == len(different)


def test_missing_is_not_none():
    """A parameter of None is not a missing one, nor is a project of None an empty name."""
    assert Trial(name="t", parameters={"a": None}).hash != Trial(name="t").hash
    assert Trial(name="t", version=None).hash != Trial(name="t", version="").hash


def test_parts_do_not_run_into_each_other():
    """Moving text from one part of the definition to the next changes the hash."""
    trials = [
        Trial(name="ab"),
        Trial(name="a", version="b"),
        Trial(name="a", project_id="b"),
        Trial(name="a", group_id="b"),
        Trial(name="a", parameters={"b": None}),
    ]

    assert len({trial.hash for trial in trials}) == len(trials)
    assert TrialGroup(name="a", project_id="b").uid != TrialGroup(name="ab").uid
    assert TrialGroup(name="a", project_id=None).uid != TrialGroup(name="a", project_id="").uid


def test_order_of_keywords_does_not_matter():
    """The same parameters in another order make the same trial, at every level."""
    one = Trial(name="t", parameters={"a": 1, "b": {"c": 2, "d": [{"e": 3, "f": 4}]}})
    other = Trial(name="t", parameters={"b": {"d": [{"f": 4, "e": 3}], "c": 2}, "a": 1})

    assert one.hash == other.hash


def test_equal_values_have_one_hash():
    """Tuples equal lists, and NaN equals NaN, regardless of its bits."""
    negative_nan = math.copysign(math.nan, -1)

    assert Trial(name="t", parameters={"a": (1, 2)}).hash == Trial(name="t", parameters={"a": [1, 2]}).hash
    assert canonical(math.nan) == canonical(negative_nan)


def test_hash_covers_the_definition_only():
    """Description, metadata and tags are not part of the identity."""
    plain = Trial(name="t")
    described = Trial(name="t", description="d", metadata={"a": 1}, tags={"b": 2})

    assert plain.hash == described.hash


def test_uid_does_not_change():
    """Attaching a trial elsewhere or logging more arguments does not change its uid."""
    trial = Trial(name="t", parameters={"a": 1})
    uid = trial.uid

    trial.project_id, trial.group_id = "p", "g"
    trial.parameters["b"] = 2

    assert trial.uid == uid
    assert dataclasses.replace(trial, revision=3).uid == f"{trial.hash}_3"


def test_hash_is_the_same_everywhere():
    """The hash is the same in every process and every version, since trials are found by it."""
    code = """if True:
        from trialstream_schemas.model.identity import trial_hash
        print(trial_hash('mlp', '1', {'lr': 0.1}, 'digits', None))"""
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "1"}, check=True, capture_output=True, text=True
    ).stdout.strip()

    assert trial_hash("mlp", "1", {"lr": 0.1}, "digits", None) == elsewhere
    assert elsewhere == "225ae9dc3177a984a9b2493d6211d313"
    assert TrialGroup(name="search", project_id="digits").uid == "52d694ee121e6522db6b6c3dfb9f6ea5"
    assert Project(name="digits").uid == "digits"
