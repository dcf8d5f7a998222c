"""The paths at which two documents differ."""

from __future__ import annotations

import math

import bson
import pytest
from trialstream_consumer.replay.diff import _paths


@pytest.mark.parametrize(
    ("live", "folded", "paths"),
    [
        pytest.param({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [1, 2]}}, [], id="nothing"),
        pytest.param({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 4}, ["a.b", "c"], id="values, at any depth"),
        pytest.param({"a": 1}, {"b": 1}, ["a", "b"], id="fields that only one document has"),
        pytest.param({"a": 1}, {"a": 1.0}, ["a"], id="a type"),
        pytest.param({"a": 1}, {"a": bson.Int64(1)}, ["a"], id="the width of an integer"),
        pytest.param({"a": math.nan}, {"a": math.nan}, [], id="NaN is NaN"),
        pytest.param({"a": 0.0}, {"a": -0.0}, ["a"], id="the sign of a zero"),
        pytest.param({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ["a.1.b"], id="an item"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, ["a"], id="lists of different lengths"),
        pytest.param({"a": {}}, {"a": None}, ["a"], id="a document and none"),
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, [], id="the order of fields is ignored"),
    ],
)
def test_paths_that_differ(live, folded, paths):
    """Paths are dotted; paths of the live document come first, then paths that only the fold of the log has."""
    assert list(_paths("", bson.decode(bson.encode(live)), bson.decode(bson.encode(folded)))) == paths
