"""The checks of values that users log."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import pathlib
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

import bson
import numpy as np
import pytest
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model import forms, values
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.values import MAX_NAME_BYTES, MAX_VALUE_BYTES

INT64_MAX = 2**63 - 1


class Optimizer(str, enum.Enum):  # noqa: UP042 (what users have; its str() is "Optimizer.ADAM")
    ADAM = "adam"


class Layers(enum.IntEnum):
    TWO = 2


class Tensor:
    """A scalar like torch's, which item() returns."""

    def __init__(self, inner):
        self.inner = inner

    def item(self):
        """Return the scalar."""
        return self.inner


class Stubborn:
    """An object whose item() returns the object itself."""

    def item(self):
        """Return the object itself."""
        return self


def nested(depth):
    """Return a list in a list, that many levels deep."""
    x = 1
    for _ in range(depth):
        x = [x]
    return x


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        pytest.param(None, None, id="None"),
        pytest.param(True, True, id="bool"),
        pytest.param(0, 0, id="zero"),
        pytest.param(INT64_MAX, INT64_MAX, id="the largest 64-bit integer"),
        pytest.param(-(2**63), -(2**63), id="the smallest 64-bit integer"),
        pytest.param(1.5, 1.5, id="float"),
        pytest.param(math.inf, math.inf, id="inf"),
        pytest.param("", "", id="empty text"),
        pytest.param("a\0b", "a\0b", id="NUL inside a text"),
        pytest.param("\U0001f600", "\U0001f600", id="text beyond the basic plane"),
        pytest.param(b"\xff\0", b"\xff\0", id="bytes"),
        pytest.param(bytearray(b"ab"), b"ab", id="bytearray"),
        pytest.param(memoryview(b"ab"), b"ab", id="memoryview"),
        pytest.param([1, [2]], [1, [2]], id="nested lists"),
        pytest.param((1, (2, 3)), [1, [2, 3]], id="tuples become lists"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 1}}, id="nested dicts"),
        pytest.param(OrderedDict(a=1), {"a": 1}, id="OrderedDict"),
        pytest.param(MappingProxyType({"a": 1}), {"a": 1}, id="any mapping"),
        pytest.param({}, {}, id="empty dict"),
        pytest.param([], [], id="empty list"),
        pytest.param(np.float64(1.5), 1.5, id="numpy float64"),
        pytest.param(np.float32(0.5), 0.5, id="numpy float32"),
        pytest.param(np.int64(-3), -3, id="numpy int64"),
        pytest.param(np.uint64(7), 7, id="numpy uint64"),
        pytest.param(np.bool_(True), True, id="numpy bool"),
        pytest.param(np.str_("x"), "x", id="numpy str"),
        pytest.param(np.bytes_(b"x"), b"x", id="numpy bytes"),
        pytest.param(np.array(2.5), 2.5, id="numpy array of no dimension"),
        pytest.param(np.longdouble(1.5), 1.5, id="numpy long double"),
        pytest.param(np.longdouble("inf"), math.inf, id="infinite numpy long double"),
        pytest.param(np.array(np.longdouble(1.5)), 1.5, id="numpy array of a long double"),
        pytest.param(np.array(np.float32(1.5), dtype=object), 1.5, id="numpy array of a numpy scalar"),
        pytest.param(np.array("x"), "x", id="numpy array of a text"),
        pytest.param([np.int32(1), np.float16(2)], [1, 2.0], id="numpy scalars in a list"),
        pytest.param(Tensor(3), 3, id="anything with item()"),
        pytest.param(Optimizer.ADAM, "adam", id="an enum of texts is its text"),
        pytest.param(Layers.TWO, 2, id="an enum of integers is its integer"),
        pytest.param(nested(64), nested(64), id="64 levels"),
    ],
)
def test_value_accepts(given, plain):
    """A value becomes its plain form, with exactly the built-in types."""
    found = values.value(given, "lr")

    assert found == plain
    assert type(found) is type(plain)


def test_value_keeps_nan():
    """NaN is a value."""
    assert math.isnan(values.value(math.nan, "lr"))


def test_value_is_a_copy():
    """Changing the argument later does not change the logged value."""
    given = {"a": [1]}

    found = values.value(given, "lr")
    given["a"].append(2)

    assert found == {"a": [1]}


@pytest.mark.parametrize(
    ("given", "error", "path", "reason"),
    [
        pytest.param(2**63, InvalidValue, "p", "64 bits", id="integer above 64 bits"),
        pytest.param(-(2**63) - 1, InvalidValue, "p", "64 bits", id="integer below 64 bits"),
        pytest.param(10**5000, InvalidValue, "p", "64 bits", id="integer too long to print"),
        pytest.param(np.uint64(2**64 - 1), InvalidValue, "p", "64 bits", id="numpy integer above 64 bits"),
        pytest.param("\ud800", InvalidValue, "p", "surrogate", id="lone surrogate in a text"),
        pytest.param({"\ud800": 1}, InvalidValue, "p: key", "surrogate", id="lone surrogate in a key"),
        pytest.param({"a\0b": 1}, InvalidValue, "p: key", "NUL", id="NUL in a key"),
        pytest.param({"x" * 1025: 1}, InvalidValue, "p: key", "1024 bytes", id="key too long"),
        pytest.param({1: 1}, InvalidType, "p: key", "expected a str, got int", id="key that is not a text"),
        pytest.param({"a": [1, {"b": object()}]}, InvalidType, "p.a.1.b", "object", id="object deep inside"),
        pytest.param({"a": {"b": ["\udfff"]}}, InvalidValue, "p.a.b.0", "surrogate", id="surrogate deep inside"),
        pytest.param(object(), InvalidType, "p", "builtins.object", id="object of unknown type"),
        pytest.param({1, 2}, InvalidType, "p", "builtins.set", id="set"),
        pytest.param(1j, InvalidType, "p", "builtins.complex", id="complex number"),
        pytest.param(np.complex64(1), InvalidType, "p", "complex", id="numpy complex number"),
        pytest.param(int, InvalidType, "p", "type", id="class"),
        pytest.param(len, InvalidType, "p", "builtin_function", id="function"),
        pytest.param((x for x in ()), InvalidType, "p", "generator", id="generator"),
        pytest.param(
            np.array([1, 2]), InvalidType, "p", "got numpy.ndarray, whose item() failed", id="numpy array of two"
        ),
        pytest.param(np.clongdouble(1), InvalidType, "p", "clongdouble", id="numpy long complex number"),
        pytest.param(Stubborn(), InvalidType, "p", "Stubborn", id="item() that returns itself"),
        pytest.param(Tensor(object()), InvalidType, "p", "builtins.object", id="item() that returns an object"),
        pytest.param(nested(65), InvalidValue, "p" + 65 * ".0", "at most 64 levels", id="65 levels"),
    ],
)
def test_value_refuses(given, error, path, reason):
    """A value that cannot be logged is an error that names the path of the key and the reason."""
    with pytest.raises(error) as refused:
        values.value(given, "p")

    assert str(refused.value).startswith((f"{path}: ", f"{path} '"))
    assert reason in str(refused.value)


TIMES = [
    *(np.datetime64("2026-01-01", unit) for unit in ("Y", "D", "s", "us", "ns")),
    *(np.timedelta64(1, unit) for unit in ("D", "s", "us", "ns")),
    *(np.timedelta64(1), np.datetime64("NaT"), np.timedelta64("NaT")),
    *(np.array(np.datetime64("2026-01-01", "ns")), np.array([np.timedelta64(1, "ns")])),
    *(np.array(np.datetime64("2026-01-01", "ns"), dtype=object), np.array(np.timedelta64(1, "ns"), dtype=object)),
]


@pytest.mark.parametrize("x", TIMES, ids=repr)
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(lambda x: values.value(x, "p"), id="value"),
        pytest.param(lambda x: values.values({"a": [{"b": x}]}, "p"), id="nested value"),
        pytest.param(lambda x: values.number(x, "p"), id="number"),
        pytest.param(lambda x: check_step(x, "p"), id="step"),
    ],
)
def test_numpy_times_are_refused(check, x):
    """A time of numpy, of any unit, is an error that has the conversion to use."""
    with pytest.raises(InvalidType, match=r"^p.*got numpy\.\w*(64|array): pass .*(str\(x\)|1e6|64\()"):
        check(x)


def test_a_record_with_a_time_is_refused():
    """A structured scalar of numpy is a list of its fields; one with a time, also nested, is refused."""
    record = np.array((1, 0.5), dtype=[("a", "i4"), ("b", "f8")])[()]
    timed = np.array((1, (0, [0, 0])), dtype=[("a", "i4"), ("b", [("c", "i4"), ("d", "m8[ns]", 2)])])[()]

    assert values.value(record, "p") == [1, 0.5]
    with pytest.raises(InvalidType, match=r"numpy\.void"):
        values.value(timed, "p")


def test_the_conversions_of_numpy_times():
    """The conversions in the messages about numpy times are right for every unit."""
    for unit in ("s", "ms", "us", "ns"):
        x = np.datetime64("1970-01-01T00:01:30", unit)
        assert values.number(x.astype("datetime64[us]").astype(int) / 1e6, "p") == 90.0
        assert values.number(np.timedelta64(90, "s").astype(f"m8[{unit}]") / np.timedelta64(1, "s"), "p") == 90.0


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


class Color(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("x", "conversion"),
    [
        pytest.param(pathlib.PurePosixPath("a"), "str(x)", id="path"),
        pytest.param(Color.RED, "x.value or x.name", id="enum"),
        pytest.param(datetime(2026, 1, 1, tzinfo=UTC), "x.isoformat()", id="datetime"),
        pytest.param(date(2026, 1, 1), "x.isoformat()", id="date"),
        pytest.param(timedelta(1), "x.total_seconds()", id="timedelta"),
        pytest.param({1}, "list(x)", id="set"),
        pytest.param(range(3), "list(x)", id="range"),
        pytest.param({}.values(), "list(x)", id="view of values"),
        pytest.param((x for x in ()), "list(x)", id="generator"),
        pytest.param(Settings(), "dataclasses.asdict(x)", id="dataclass"),
        pytest.param(argparse.Namespace(a=1), "vars(x)", id="namespace"),
        pytest.param(np.array([1, 2]), "x.tolist()", id="array"),
        pytest.param(np.array([], dtype=float), "x.tolist()", id="empty array"),
        pytest.param(np.array(["2026"] * 2, dtype="M8[ns]"), "x.astype(str).tolist()", id="array of times"),
        pytest.param(1j, "[x.real, x.imag]", id="complex number"),
        pytest.param(Decimal(1), "float(x) or str(x)", id="decimal"),
        pytest.param(Fraction(1, 3), "float(x)", id="fraction"),
        pytest.param(int, "x.__qualname__", id="class"),
    ],
)
def test_a_refused_value_has_a_conversion(x, conversion):
    """The message about a value that cannot be logged ends with the conversion to use."""
    with pytest.raises(InvalidType) as refused:
        values.value([x], "p")

    assert str(refused.value).startswith("p.0: expected None, a bool, ")
    assert str(refused.value).endswith(f": pass {conversion}")


def test_a_refused_object_without_a_conversion():
    """The message about an object that no conversion is known for names its type only."""
    with pytest.raises(InvalidType, match=r"a dict, got builtins\.object$"):
        values.value(object(), "p")


def test_value_refuses_recursion():
    """A list that contains itself is an error, not an endless recursion."""
    endless: list = []
    endless.extend((endless, endless))

    with pytest.raises(InvalidValue, match="at most 64 levels"):
        values.value(endless, "p")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: "x" * n, id="text"),
        pytest.param(lambda n: "é" * (n // 2), id="text of two bytes a character"),
        pytest.param(lambda n: b"x" * n, id="bytes"),
        pytest.param(lambda n: list(range(n // 16)), id="list of integers"),
        pytest.param(lambda n: {f"{i:06}": 1.0 for i in range(n // 16)}, id="dict"),
    ],
)
def test_value_is_bounded(make):
    """A value of more than 512 KiB is an error; a slightly smaller one is accepted."""
    values.value(make(MAX_VALUE_BYTES - 16), "p")

    with pytest.raises(InvalidValue, match=r"^p: expected at most 524288 bytes, got \d+$"):
        values.value(make(MAX_VALUE_BYTES + 16), "p")


@pytest.mark.parametrize(
    "x",
    [
        pytest.param("é" * 100, id="text"),
        pytest.param([None] * 2000, id="list"),
        pytest.param({"." * 300: {"$" * 300: 1, "%" * 300: [True]}}, id="keys that are escaped"),
        pytest.param({"": {"": b"x"}}, id="empty keys"),
        pytest.param([[[{"a": [1.5, "x", b"y"]}]]], id="nested"),
    ],
)
def test_size_is_no_less_than_the_bson(x):
    """`size` is at least the number of bytes in BSON, and at most three times that."""
    taken = len(bson.encode({"x": forms.to_document(x)})) - 8  # of the outer document: length, type, "x", end

    assert taken <= values.size(x) <= 3 * taken


def test_values_names_every_key():
    """Every key and value of a dict is checked, and the error names the key."""
    assert values.values({"a": (1,), "": 2}, "tags") == {"a": [1], "": 2}

    with pytest.raises(InvalidType, match=r"^tags\.b: "):
        values.values({"a": 1, "b": object()}, "tags")
    with pytest.raises(InvalidType, match=r"^tags: key: expected a str, got NoneType"):
        values.values({None: 1}, "tags")
    with pytest.raises(InvalidType, match=r"^tags: expected a dict, got list"):
        values.values([("a", 1)], "tags")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("loss", id="plain"),
        pytest.param("", id="empty"),
        pytest.param("a.b$c %", id="dots, dollars, spaces"),
        pytest.param("学习率", id="Chinese"),
        pytest.param("x" * MAX_NAME_BYTES, id="the largest length"),
    ],
)
def test_name_accepts(name):
    """A name is any text without NUL, of bounded length."""
    assert values.check_name(name, "p") == name


def test_name_is_bounded_in_bytes():
    """The bound of a name counts its UTF-8, not its characters."""
    values.check_name("é" * 512, "p")

    with pytest.raises(InvalidValue, match=r"^p '.*': expected at most 1024 bytes in UTF-8, got 1026$"):
        values.check_name("é" * 513, "p")


def test_name_of_an_enum_is_its_text():
    """A member of a string enum, as a name, becomes its text."""
    assert values.check_name(Optimizer.ADAM, "p") == "adam"
    assert type(values.check_name(Optimizer.ADAM, "p")) is str


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        pytest.param(1, 1.0, id="int"),
        pytest.param(1.5, 1.5, id="float"),
        pytest.param(True, 1.0, id="bool"),
        pytest.param(np.float32(0.5), 0.5, id="numpy float32"),
        pytest.param(np.float64(0.5), 0.5, id="numpy float64"),
        pytest.param(np.int8(-1), -1.0, id="numpy int8"),
        pytest.param(np.bool_(False), 0.0, id="numpy bool"),
        pytest.param(np.array([[2.0]]), 2.0, id="numpy array of one"),
        pytest.param(np.float16(0.5), 0.5, id="numpy float16"),
        pytest.param(np.longdouble(0.5), 0.5, id="numpy long double"),
        pytest.param(np.array(np.longdouble(0.5)), 0.5, id="numpy array of a long double"),
        pytest.param(np.array(np.int8(2), dtype=object), 2.0, id="numpy array of a numpy scalar"),
        pytest.param(Tensor(2.5), 2.5, id="anything with item()"),
        pytest.param(2**64, 2.0**64, id="integer beyond 64 bits"),
        pytest.param(-math.inf, -math.inf, id="-inf"),
    ],
)
def test_number_accepts(given, plain):
    """A metric is a number, or an object whose item() is one."""
    found = values.number(given, "loss")

    assert found == plain
    assert type(found) is float


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param("1", InvalidType, id="text"),
        pytest.param(None, InvalidType, id="None"),
        pytest.param([1], InvalidType, id="list"),
        pytest.param(1j, InvalidType, id="complex number"),
        pytest.param(np.array([1.0, 2.0]), InvalidType, id="numpy array of two"),
        pytest.param(Tensor("1"), InvalidType, id="item() that returns a text"),
        pytest.param(Tensor(None), InvalidType, id="item() that returns None"),
        pytest.param(np.str_("1"), InvalidType, id="numpy text"),
        pytest.param(Stubborn(), InvalidType, id="item() that returns itself"),
        pytest.param(10**400, InvalidValue, id="integer too large for a double"),
    ],
)
def test_number_refuses(given, error):
    """An object that is not a number is an error that names the metric and is a TypeError or ValueError too."""
    with pytest.raises(error, match=r"^loss: "):
        values.number(given, "loss")

    assert issubclass(InvalidType, TypeError)
    assert issubclass(InvalidValue, ValueError)


@pytest.mark.parametrize(
    ("x", "conversion"),
    [
        pytest.param(Decimal(1), "float(x)", id="decimal"),
        pytest.param(datetime(2026, 1, 1, tzinfo=UTC), "x.timestamp()", id="datetime"),
        pytest.param(timedelta(1), "x.total_seconds()", id="timedelta"),
        pytest.param(Color.RED, "x.value", id="enum"),
        pytest.param(np.array([1.0, 2.0]), "a number, such as x.mean()", id="array"),
    ],
)
def test_a_refused_number_has_a_conversion(x, conversion):
    """The message about an object that is no number ends with the conversion to use."""
    with pytest.raises(InvalidType) as refused:
        values.number(x, "p")

    assert str(refused.value).startswith("p: expected a number, got ")
    assert str(refused.value).endswith(f": pass {conversion}")


def test_a_long_double_beyond_a_double_is_refused():
    """A finite long double that would become infinite is an error, on machines whose long double is longer."""
    with np.errstate(over="ignore"):
        large = np.longdouble(2) ** 2000
    if np.isinf(large):
        pytest.skip("the long double of this machine is a double")

    with pytest.raises(InvalidValue, match=r"^p: expected a number that fits a double, got"):
        values.number(large, "p")


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        pytest.param(np.int32(3), 3, id="numpy integer"),
        pytest.param(np.float16(0.5), 0.5, id="numpy float"),
        pytest.param(np.longdouble(0.5), 0.5, id="numpy long double"),
        pytest.param(np.str_("a"), "a", id="numpy text"),
        pytest.param(np.array("a"), "a", id="numpy array of a text"),
        pytest.param(Tensor(3), 3, id="anything with item()"),
        pytest.param(None, None, id="None"),
    ],
)
def test_step_accepts(given, plain):
    """A step becomes its plain form, with exactly the built-in types."""
    found = check_step(given)

    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(np.bool_(True), "got builtins.bool", id="numpy bool"),
        pytest.param(b"a", "got builtins.bytes", id="bytes"),
        pytest.param(Tensor(None), "got builtins.NoneType", id="item() that returns None"),
        pytest.param(pathlib.PurePosixPath("a"), "pass str(x)", id="path"),
        pytest.param(date(2026, 1, 1), "pass x.isoformat()", id="date"),
    ],
)
def test_step_refuses(given, reason):
    """A step that is no number and no text is an error that names the parameter and has the reason."""
    with pytest.raises(InvalidType, match=r"^step: expected an int, a float, a str or None, got ") as refused:
        check_step(given)

    assert reason in str(refused.value)
