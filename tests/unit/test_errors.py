"""The error tree and its documentation."""

from __future__ import annotations

import inspect
import re

import pytest
from trialstream_schemas import errors

CLASSES = {
    name: each for name, each in vars(errors).items() if inspect.isclass(each) and each.__module__ == errors.__name__
}


def documented():
    """Parse the tree in the module's docstring: name, parent and second base of each class."""
    found, above = [], []
    for line in errors.__doc__.splitlines():
        if drawn := re.match(r"([│├└─ ]*)([A-Z]\w+)(?:  .*?(?:\(also an? (\w+)\))?)?$", line):
            depth = len(drawn[1]) // 4
            above[depth:] = [drawn[2]]
            found.append((drawn[2], above[depth - 1] if depth else None, drawn[3]))
    return found


def test_docstring_lists_every_class():
    """The docstring has every class once, under its parent, in the order of the module."""
    assert [name for name, _, _ in documented()] == list(CLASSES)
    assert {name: parent for name, parent, _ in documented()} == {
        name: each.__bases__[0].__name__ if each is not errors.TrialStreamError else None
        for name, each in CLASSES.items()
    }


def test_docstring_names_the_second_base():
    """The docstring names the built-in exception that an error also is."""
    assert {name: second for name, _, second in documented()} == {
        name: each.__bases__[1].__name__ if len(each.__bases__) > 1 else None for name, each in CLASSES.items()
    }


def test_all_exports_every_class():
    """Every class is exported."""
    assert errors.__all__ == sorted(CLASSES)


@pytest.mark.parametrize("error", [pytest.param(each, id=name) for name, each in CLASSES.items()])
def test_error(error):
    """Every error has the same root, a docstring, and its message."""
    assert issubclass(error, errors.TrialStreamError)
    assert error.__doc__.endswith(".")
    assert str(error("say what to do")) == "say what to do"
