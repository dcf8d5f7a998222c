"""Fuzz targets of texts that users and pages send: the query language."""

from __future__ import annotations

from trialstream.reading.paths import TRIAL_FIELDS
from trialstream.reading.query import translate
from trialstream_console.queries import Column, WhereError, complete, parse_columns, parse_where

__all__ = ["TARGETS"]

_COLUMNS = [Column("parameters.my key", "parameter", "text", ("a b",))]


def _where(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    complete(text, len(text), _COLUMNS)
    return translate(parse_where(text), TRIAL_FIELDS)


def _texts() -> list[bytes]:
    return [
        b"",
        b"status = Running and metrics.loss.last < 0.1 and parameters.opt in (\"adam\", 'sgd') or lost",
        b'not (tags."a b".x exists) and name !~ "res.*" and created > 2h ago and has tags.y',
        b"(" * 8 + b"tags.list contains x" + b")" * 8,
        b"starts = 1 or " * 90 + b"word",
    ]


# The name of each target, its function, its seeds, and the errors that it may raise.
TARGETS = [
    ("where", _where, _texts, (WhereError,)),
    (
        "columns",
        lambda data: parse_columns(data.decode("utf-8", "replace")),
        lambda: [b'name, tags."a, b"'],
        (WhereError,),
    ),
]
