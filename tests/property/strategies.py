"""Strategies of the property tests: names, values, and events of every type."""

from __future__ import annotations

import dataclasses
import math
import struct
from array import array

from hypothesis import strategies as st
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.wire import events
from trialstream_schemas.wire.events import Error, StatusRecord

INT64 = st.integers(-(2**63), 2**63 - 1)
# Times from the year 1 to 9999, microseconds since 1970 UTC.
TIMES = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
FLOATS = st.floats()
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
ODD_NAMES = ["", " ", "a", "a.b", ".", "$", "$set", "%", "%25", "%2E", "%kind", "%float", "_id", "é", "\U0001f600"]
NAMES = st.sampled_from(ODD_NAMES) | st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20
)


def _containers(inner):
    return st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)


SCALARS = st.none() | st.booleans() | INT64 | FLOATS | TEXTS | st.binary(max_size=20)
VALUES = st.recursive(SCALARS, _containers, max_leaves=12)
DICTS = st.dictionaries(NAMES, VALUES, max_size=4)
KINDS = st.sampled_from(["value", "stat", "ring", "timeseries", "best"])
SPECS = st.builds(AggregatorSpec, KINDS | TEXTS, st.integers(0, 2) | INT64)

_OPTIONAL_TEXT = st.none() | TEXTS
_FIELDS = {
    **dict.fromkeys(("trial", "project", "group", "writer", "name", "description", "log"), TEXTS),
    **dict.fromkeys(("request", "version", "project_id", "group_id"), _OPTIONAL_TEXT),
    **dict.fromkeys(("parameters", "metadata", "tags", "values"), DICTS),
    **dict.fromkeys(("names", "text_steps"), st.lists(TEXTS, max_size=4)),
    **dict.fromkeys(("announced", "failed", "times", "steps"), st.lists(INT64, max_size=4)),
    **dict.fromkeys(("float_steps", "elapsed"), st.lists(FLOATS, max_size=4)),
    **dict.fromkeys(("auto_increment", "interrupted"), st.booleans()),
    "seq": INT64,
    "time": TIMES,
    "if_version": st.none() | INT64,
    "aggregator": SPECS,
    "aggregators": st.lists(SPECS, max_size=4),
    "chronos": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
    "columns": st.lists(st.lists(FLOATS, max_size=4).map(lambda column: array("d", column)), max_size=4),
    "status": st.builds(StatusRecord, TEXTS, INT64),
    "error": st.none() | st.builds(Error, TEXTS, TEXTS, TEXTS),
    "partitions": st.integers(-(2**31), 2**31 - 1),
    **dict.fromkeys(("attempt", "resumes"), _OPTIONAL_TEXT),
    "host": TEXTS,
    **dict.fromkeys(("rank", "world_size"), st.none() | st.integers(-1, 4) | INT64),
    "resume_step": st.none() | INT64 | FLOATS,
}
_OWN = {
    "TrialCreated": {"status": st.none() | _FIELDS["status"]},
    "TrialFinished": {"elapsed": st.none() | FLOATS},
    "MetricsLogged": {
        "names": st.lists(TEXTS, max_size=4).map(tuple),
        **dict.fromkeys(("times", "steps"), st.lists(INT64, max_size=40).map(lambda column: array("q", column))),
        "float_steps": st.lists(FLOATS, max_size=4).map(lambda column: array("d", column)),
    },
}


def events_of(event):
    """Return a strategy for events of a type with any content that their schema allows."""
    own = _OWN.get(event.__name__, {})
    return st.builds(
        event, **{each.name: own.get(each.name, _FIELDS.get(each.name)) for each in dataclasses.fields(event)}
    )


_FIELDS["updates"] = st.lists(st.one_of([events_of(each) for each in events.PARTS]), max_size=3)
EVENTS = st.one_of([events_of(each) for each in events.EVENTS])


def exact(x):
    """Return a form of a value with exact equality: 1, 1.0 and True differ, and so do 0.0 and -0.0; NaN equals NaN."""
    if dataclasses.is_dataclass(x):
        return (type(x).__name__, [(each.name, exact(getattr(x, each.name))) for each in dataclasses.fields(x)])
    if isinstance(x, float):
        return ("float", "nan" if math.isnan(x) else struct.pack("<d", x))
    if isinstance(x, array):
        return ("array", x.typecode, x.tobytes())
    if isinstance(x, list | tuple):
        return ("list", [exact(each) for each in x])
    if isinstance(x, dict):
        return ("dict", [(key, exact(each)) for key, each in x.items()])
    return (type(x).__name__, x)
