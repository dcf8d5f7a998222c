"""Check that docstrings are complete. `make lint` runs this; it prints each fault and exits with 1 if there is any.

In all packages:

- griffe can parse every docstring (Google style), and every documented parameter is in the signature;
- a docstring that documents one parameter documents all of them;
- each entry under `Raises:` is one exception, with a sentence: `KafkaUnavailable: No broker answered.`

In the public API, which is what `trialstream` and `trialstream.sync` export:

- every function and method documents all of its parameters, and what it returns; a method that overrides another one
  may leave that to it.

In the tests, the benchmarks and the examples, too:

- no docstring begins with a word of a question, such as "What" or "Who": the noun comes first.

A method without a docstring is not checked here: it implements a documented method, or ruff reports it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "trialstream_schemas": "schemas",
    "trialstream": "producer",
    "trialstream_consumer": "consumer",
    "trialstream_console": "console",
}
PUBLIC_MODULES = ("trialstream", "trialstream.sync")
_EXCEPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
# "When" and "If" may begin a condition, and "Whether" the docstring of a predicate.
_QUESTION = re.compile(r'^\s*[rf]?"""((?:What|Who|Whose|How|Where|Why|Which)(?:ever)?) ', re.MULTILINE)
_FOLDERS = (*PACKAGES.values(), "tests", "benchmarks", "examples", "release")
_SENTENCE = re.compile(r"[^a-z].*[.…)`]$", re.DOTALL)


class _Faults(logging.Handler):
    """Collects the warnings that griffe logs while it parses a docstring."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        if record.levelno >= logging.WARNING:
            self.messages.append(record.getMessage())


def main() -> int:
    """Check all packages.

    Returns:
        The exit code.
    """
    faults = _Faults()
    logger = logging.getLogger("griffe")
    logger.addHandler(faults)
    logger.propagate = False
    paths = [str(ROOT / folder) for folder in PACKAGES.values()]
    loader = griffe.GriffeLoader(search_paths=paths, docstring_parser=griffe.Parser.google)
    modules = [loader.load(name) for name in PACKAGES]
    found = list(faults.messages)
    public = set(_public(modules))
    for module in modules:
        for each in _documented(module):
            faults.messages.clear()
            found += [f"{_place(each)}: {fault}" for fault in _check(each, is_public=each.canonical_path in public)]
            found += faults.messages
    found += _questions()
    for each in found:
        print(each)  # noqa: T201 (the output of a check)
    return 1 if found else 0


def _questions() -> Iterator[str]:
    """Yield the places of docstrings that begin with the word of a question."""
    for path in sorted(each for folder in _FOLDERS for each in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        for match in () if "node_modules" in path.parts else _QUESTION.finditer(text):
            line = text.count("\n", 0, match.end()) + 1
            yield f"{path.relative_to(ROOT)}:{line}: expected a noun at the beginning, got {match[1]}"


def _documented(parent: griffe.Object) -> Iterator[griffe.Function | griffe.Class]:
    """Yield all functions and classes below an object that have a docstring."""
    for each in parent.members.values():
        if each.is_alias:
            continue
        if isinstance(each, griffe.Function | griffe.Class) and each.docstring is not None:
            yield each
        if isinstance(each, griffe.Module | griffe.Class):
            yield from _documented(each)


def _public(modules: list[griffe.Object]) -> Iterator[str]:
    """Yield the paths of the functions, classes and methods that users call."""
    by_name = {module.path: module for module in modules}
    for name in PUBLIC_MODULES:
        top, _, rest = name.partition(".")
        module = by_name[top][rest] if rest else by_name[top]
        for export in module.exports or ():
            each = module.members[str(export)]
            target = each.final_target if isinstance(each, griffe.Alias) else each
            yield target.canonical_path
            if isinstance(target, griffe.Class):
                for method, member in target.members.items():
                    if isinstance(member, griffe.Function) and not method.startswith("_"):
                        yield member.canonical_path


def _check(each: griffe.Function | griffe.Class, *, is_public: bool) -> Iterator[str]:
    assert each.docstring is not None
    sections = {section.kind: section for section in each.docstring.parse("google")}
    documented = {
        item.name.lstrip("*") for item in getattr(sections.get(griffe.DocstringSectionKind.parameters), "value", ())
    }
    if isinstance(each, griffe.Function):
        is_override = isinstance(each.parent, griffe.Class) and any(
            each.name in base.members for base in each.parent.mro()
        )
        is_public = is_public and not is_override
        signature = [item.name for item in each.parameters if item.name not in ("self", "cls")]
        missing = [name for name in signature if name not in documented and not name.startswith("_")]
        if missing and (documented or is_public):
            yield f"parameters that are not documented: {', '.join(missing)}"
        returns = str(each.returns or "None")
        if (
            is_public
            and returns not in ("None", "NoReturn", "Self")
            and griffe.DocstringSectionKind.returns not in sections
        ):
            yield f"returns {returns}, which is not documented"
    raises = sections.get(griffe.DocstringSectionKind.raises)
    for item in getattr(raises, "value", ()):
        if not _EXCEPTION.fullmatch(str(item.annotation)):
            yield f"Raises: expected one exception in an entry, got {item.annotation}"
        elif not _SENTENCE.fullmatch(item.description):
            yield f"Raises: {item.annotation}: expected a sentence, got {item.description!r}"


def _place(each: griffe.Object) -> str:
    return f"{Path(str(each.filepath)).relative_to(ROOT)}:{each.lineno} {each.name}"


if __name__ == "__main__":
    sys.exit(main())
