r"""Paths of queries: the fields that can be queried, and the translation of dotted paths.

Paths are dotted: `parameters.lr`, `metrics.loss.last`, `errors.0.type`. In a key, a dot is written `\.` and a backslash
`\\`; `path("parameters", "a.b")` escapes both. Stored keys are escaped in another way (`model.keys.escape_key`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from reprlib import repr as shown
from typing import TypeAlias

from trialstream_schemas.errors import QueryError
from trialstream_schemas.model.keys import escape_key
from trialstream_schemas.model.values import check_text

__all__ = [
    "FIELDS",
    "GROUP_FIELDS",
    "PROJECT_FIELDS",
    "TRIAL_FIELDS",
    "Fields",
    "is_time",
    "keys_of",
    "path",
    "resolve",
]

Fields: TypeAlias = Mapping[str, str]

# Name of each field for users → its name in the document. Only `uid` has another name there.
_SHARED = ("name", "description", "metadata", "tags", "created")
_FOLDED = ("project_id", "state_version", "writers", "lost_events")
PROJECT_FIELDS: Fields = {"uid": "_id"} | {name: name for name in _SHARED}
GROUP_FIELDS: Fields = {"uid": "_id"} | {name: name for name in (*_SHARED, *_FOLDED)}
TRIAL_FIELDS: Fields = {"uid": "_id"} | {
    name: name
    for name in (
        *_SHARED,
        *_FOLDED,
        *("hash", "revision", "version", "group_id", "parameters", "metrics", "chronos", "open_chronos"),
        *("failed_chronos", "status", "errors", "errors_dropped", "starts", "started", "finished", "last_seen"),
        *("rows", "size", "attempts", "participants", "former_participants"),
    )
}

FIELDS: Mapping[str, Fields] = {"trials": TRIAL_FIELDS, "groups": GROUP_FIELDS, "projects": PROJECT_FIELDS}

# Paths of times in a document. `errors` and `attempts` are lists, whose elements a path addresses with or without their
# index.
_TIME = re.compile(
    r"created|started|finished|last_seen|errors(\.\d+)?\.time|attempts(\.\d+)?\.started"
    r"|participants\.[^.]+\.(joined|last_seen)"
)

_MAX_KEYS = 100  # in one path: MongoDB refuses 200, and no value is nested deeper than this
_KEY = re.compile(r"(?:[^\\.]|\\[\\.$])*", re.DOTALL)


def path(*keys: str) -> str:
    r"""Join keys into a path for queries and sorting: `path("parameters", "a.b")` is `parameters.a\.b`.

    Args:
        *keys: Field and keys, from the outside in.

    Returns:
        The path, with dots and backslashes in keys escaped.

    Raises:
        QueryError: A key is not a str.
    """
    for key in keys:
        if not isinstance(key, str):
            raise QueryError(f"path: expected keys of type str, got {type(key).__name__}")
    joined = ".".join(key.replace("\\", "\\\\").replace(".", "\\.") for key in keys)
    return "\\" + joined if joined.startswith("$") else joined  # inside $elemMatch it would look like an operator


def resolve(given: str, fields: Fields | None) -> str:
    """Translate a path to the path in the document.

    Args:
        given: The path, as the user wrote it.
        fields: The fields that can be queried; None for a path that is relative to the element of a list.

    Returns:
        The path in the document.

    Raises:
        QueryError: The path is malformed, too long, or begins with an unknown field.
        InvalidValue: The path has a lone surrogate.
    """
    keys = keys_of(given)
    if fields is None:
        return ".".join(map(escape_key, keys))
    first, *rest = keys
    if first not in fields:
        close = get_close_matches(first, fields, n=1)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise QueryError(f"{given!r}: there is no field {first!r}{hint} The fields are {', '.join(sorted(fields))}")
    if first == "status" and not rest:
        rest = ["name"]
    return ".".join([fields[first], *map(escape_key, rest)])


def is_time(stored: str) -> bool:
    """Whether a path in the document is that of a time."""
    return _TIME.fullmatch(stored) is not None


def keys_of(given: str) -> list[str]:
    """Split a path into its keys, without escapes: the inverse of `path`.

    Args:
        given: The path, as the user wrote it.

    Returns:
        Field and keys, from the outside in.

    Raises:
        QueryError: The path is malformed or too long.
        InvalidValue: The path has a lone surrogate.
    """
    if "\0" in check_text(given, "path"):
        raise QueryError(f"path: {given!r} holds NUL, which no key can hold")
    keys, at = [], 0
    while True:
        found = _KEY.match(given, at)
        assert found is not None  # the pattern matches the empty text
        keys.append(re.sub(r"\\(.)", r"\1", found[0]))
        at = found.end()
        if at == len(given):
            break
        if given[at] != ".":
            raise QueryError(f"path: {given!r} has a lone backslash at index {at}; trialstream.path() escapes keys")
        at += 1
    if len(keys) > _MAX_KEYS:
        raise QueryError(f"path: expected at most {_MAX_KEYS} keys, got {len(keys)} in {shown(given)}")
    return keys
