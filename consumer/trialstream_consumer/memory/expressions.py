"""Values at paths as MongoDB's expressions have them, in which a list stands for the values of its dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trialstream_consumer.memory.bson_order import MISSING

__all__ = ["field_value"]


def field_value(x: Any, names: Sequence[str]) -> Any:
    """Return the value at some names; `MISSING` if there is none.

    Args:
        x: A document, or a value of one.
        names: Names of fields, from the outside in; none is the index of a list.
    """
    if not names:
        return x
    if isinstance(x, Mapping):
        return field_value(x.get(names[0], MISSING), names[1:])
    if isinstance(x, list):
        found = [field_value(each, names) for each in x if isinstance(each, Mapping)]
        return [each for each in found if each is not MISSING]
    return MISSING
