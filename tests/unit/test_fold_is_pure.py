"""The fold imports the schemas and a few modules of the standard library that neither read a clock nor do I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import trialstream_consumer.fold

ALLOWED = {"__future__", "bisect", "collections", "copy", "dataclasses", "functools", "itertools", "re", "typing"}
FILES = sorted(Path(trialstream_consumer.fold.__file__).parent.glob("*.py"))


def imports(tree):
    """The top-level packages and the modules that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_module_of_the_fold_imports_nothing_impure(file):
    """An import from anywhere else, such as `time` or `random`, needs a reason and a change of this list."""
    names = set(imports(ast.parse(file.read_text())))
    own = {name for name in names if name.startswith(("trialstream_schemas.", "trialstream_consumer.fold"))}

    assert {name.partition(".")[0] for name in names - own} <= ALLOWED


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_module_of_the_fold_calls_no_builtin_with_side_effects(file):
    """Built-in functions that read files, print, or run code are not called."""
    called = {
        node.func.id
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert called & {"open", "print", "input", "exec", "eval", "__import__", "globals"} == set()
