"""Values of the tracker: each row of the table of `tracking/values.py`, and what has no form."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import functools
import math
import pathlib
import sys
import types
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import attrs
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream.tracking.values import plain_name, plain_value, plain_values
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import MAX_NAME_BYTES, value


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Optimizer:
    name: str
    betas: tuple[float, float]
    path: pathlib.PurePosixPath


@attrs.define
class Model:
    width: int
    kind: Colour


class Settings(pydantic.BaseModel):
    lr: float
    optimizer: Optimizer


class Opaque:
    pass


class Broken:
    def __repr__(self):
        raise RuntimeError("no text")

    @property
    def shape(self):
        """An attribute that fails."""
        raise RuntimeError("no shape")


def relu():
    """A function."""


FORMS = {
    "none": (None, None),
    "bool": (True, True),
    "int": (7, 7),
    "large int": (2**70, str(2**70)),
    "float": (0.5, 0.5),
    "text": ("a", "a"),
    "lone surrogate": ("a\ud800", "a\\ud800"),
    "bytes": (bytearray(b"ab"), b"ab"),
    "enum": (Colour.RED, "red"),
    "enum of a tuple": (Colour.PAIR, "PAIR"),
    "int enum": (Level.HIGH, 3),
    "path": (pathlib.PurePosixPath("/data/x"), "/data/x"),
    "datetime": (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
    "date": (date(2026, 1, 2), "2026-01-02"),
    "time": (time(3, 4), "03:04:00"),
    "timedelta": (timedelta(minutes=2), 120.0),
    "decimal that is a double": (Decimal("0.5"), 0.5),
    "decimal that is none": (Decimal("0.1"), "0.1"),
    "fraction": (Fraction(1, 3), "1/3"),
    "uuid": (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "complex": (1 + 2j, [1.0, 2.0]),
    "class": (Opaque, f"{__name__}.Opaque"),
    "built-in class": (int, "int"),
    "function": (relu, f"{__name__}.relu"),
    "built-in function": (math.sin, "math.sin"),
    "partial": (functools.partial(relu, 1), f"{__name__}.relu"),
    "module": (math, "math"),
    "mapping": (OrderedDict([("a", 1)]), {"a": 1}),
    "number keys": ({1: "a", 2.5: "b"}, {"1": "a", "2.5": "b"}),
    "bool keys": ({True: "a"}, {"True": "a"}),
    "none and enum keys": ({None: 1, Colour.RED: 2}, {"None": 1, "red": 2}),
    "tuple keys": ({(1, 2): 3}, {"[1, 2]": 3}),
    "dataclass": (
        Optimizer("adam", (0.9, 0.99), pathlib.PurePosixPath("w")),
        {"name": "adam", "betas": [0.9, 0.99], "path": "w"},
    ),
    "attrs": (Model(3, Colour.RED), {"width": 3, "kind": "red"}),
    "pydantic": (
        Settings(lr=0.1, optimizer=Optimizer("sgd", (0.0, 0.0), pathlib.PurePosixPath("w"))),
        {"lr": 0.1, "optimizer": {"name": "sgd", "betas": [0.0, 0.0], "path": "w"}},
    ),
    "namedtuple": (Point(1, 2), {"x": 1, "y": 2}),
    "argparse": (argparse.Namespace(lr=0.1), {"lr": 0.1}),
    "namespace": (types.SimpleNamespace(lr=0.1), {"lr": 0.1}),
    "tuple": ((1, "a"), [1, "a"]),
    "range": (range(3), [0, 1, 2]),
    "set": ({"b", "a", 10, 2}, [2, 10, "a", "b"]),
    "frozenset": (frozenset({3, 1}), [1, 3]),
    "numpy float": (np.float32(0.5), 0.5),
    "numpy int": (np.int64(5), 5),
    "numpy bool": (np.True_, True),
    "0-d array": (np.array(2.5), 2.5),
    "array": (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    "array of times": (np.array(["2026-01-02"], "datetime64[D]"), ["2026-01-02"]),
    "numpy time": (np.datetime64("2026-01-02"), "2026-01-02"),
    "dtype": (np.dtype("float32"), "float32"),
}


@pytest.fixture
def losses():
    """The objects that have no form."""
    return []


@pytest.fixture
def lost(losses):
    """Records what has no form."""
    return lambda path, x: losses.append((path, x))


@pytest.mark.parametrize(("given", "form"), FORMS.values(), ids=FORMS)
def test_a_value_has_the_form_of_the_table(given, form, lost, losses):
    """Each kind of object becomes the value of the table, of plain types, and nothing is lost."""
    found = plain_value(given, "x", lost)

    assert found == form
    assert type(found) is type(form)
    assert losses == []
    assert value(found, "x") == found  # the Protocol takes it


@pytest.mark.parametrize(
    "make", [Opaque, Broken, lambda: np.zeros(2000), lambda: (i for i in range(3)), lambda: range(10**12), object]
)
def test_what_has_no_form_is_its_repr_without_addresses(make, lost, losses):
    """An object that nothing is known about is logged as a text that is the same in every process."""
    given = make()
    found = plain_value(given, "x", lost)

    assert isinstance(found, str)
    assert found
    assert "0x" not in found
    assert [path for path, _ in losses] == ["x"]


def test_the_path_of_a_lost_value_names_its_place(lost, losses):
    """The warning about a value inside of another one names the way to it."""
    plain_value({"model": [{"head": Opaque()}]}, "parameters", lost)

    assert [path for path, _ in losses] == ["parameters.model.0.head"]


def test_a_list_that_contains_itself_ends(lost):
    """A circle is cut at the depth that the Protocol takes."""
    circle = []
    circle.append(circle)

    assert value(plain_value(circle, "x", lost), "x")


def test_a_value_that_is_too_large_is_shown_by_its_beginning(lost, losses):
    """A text of a megabyte becomes its beginning, since no event could hold it."""
    found = plain_value("a" * 2**20, "x", lost)

    assert isinstance(found, str)
    assert len(found) == 1000
    assert len(losses) == 1


def test_objects_with_fields_are_parameters(lost):
    """Parameters may be any object with fields; any other object is one parameter."""
    assert plain_values(argparse.Namespace(lr=0.1), "parameters", lost) == {"lr": 0.1}
    assert plain_values(None, "parameters", lost) == {}
    assert plain_values(5, "parameters", lost) == {"value": 5}


@given(st.dictionaries(st.one_of(st.integers(), st.text(), st.booleans(), st.none()), st.text(max_size=5)))
def test_parameters_of_any_keys_make_a_trial(parameters):
    """Keys of any type and text become names that the Protocol takes."""
    Trial(name="t", parameters=plain_values(parameters, "parameters", lambda *_: None))


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=3000))
def test_a_name_is_short_unicode_without_nul(text):
    """Any text becomes a name that can be logged; a plain short one stays as it is."""
    name = plain_name(text)

    assert len(name.encode()) <= MAX_NAME_BYTES
    assert "\0" not in name
    if text.isascii() and len(text) < 200 and "\0" not in text:
        assert name == text


def test_equal_sets_have_equal_forms_in_all_processes(lost):
    """The order of a set's items depends on their values alone, not on their hashes."""
    items = [f"item {i}" for i in range(50)] + [b"x", None, 3, 1.5]
    backwards = items[::-1]

    assert plain_value(set(items), "x", lost) == plain_value(set(backwards), "x", lost)


def test_omegaconf_is_resolved(lost, monkeypatch):
    """A configuration of omegaconf is converted by its own function, with its references resolved."""
    module = types.ModuleType("omegaconf")

    class DictConfig:
        pass

    class OmegaConf:
        @staticmethod
        def to_container(_, *, resolve):
            assert resolve
            return {"lr": 0.1, "list": [1, 2]}

    DictConfig.__module__ = "omegaconf.dictconfig"
    module.OmegaConf = OmegaConf
    monkeypatch.setitem(sys.modules, "omegaconf", module)

    assert plain_value(DictConfig(), "x", lost) == {"lr": 0.1, "list": [1, 2]}
