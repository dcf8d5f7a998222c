"""Finding documents in memory: filter, order, limit and projection, as one call of MongoDB does."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trialstream.reading.budget import in_time

from trialstream_consumer.memory.matching import matcher
from trialstream_consumer.memory.ordering import sort_documents

__all__ = ["found_documents"]


def found_documents(
    documents: Iterable[dict[str, Any]],
    filter_: Mapping[str, Any],
    sort: Sequence[tuple[str, int]],
    limit: int,
    projection: Mapping[str, int] | None = None,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Find documents.

    Args:
        documents: All documents of a collection.
        filter_: A filter in MongoDB's form, checked by `translate`.
        sort: Paths with 1 or -1, checked by `sort_keys`.
        limit: Maximum number of documents; 0 for all.
        projection: The fields of the result, as `partial_fields` returns them; None for all.
        offset: Number of documents before them.

    Returns:
        Copies of the documents.

    Raises:
        QueryTimeout: The call took longer than its timeout.
    """
    matches = matcher(filter_)
    found = [each for each in in_time(documents) if matches(each)]
    sort_documents(found, sort)
    return [copy.deepcopy(_projected(each, projection)) for each in found[offset:][: limit or None]]


def _projected(document: dict[str, Any], projection: Mapping[str, int] | None) -> dict[str, Any]:
    if projection is None:
        return document
    wanted: dict[str, set[str] | None] = {"_id": None}
    for path in projection:
        field, _, key = path.partition(".")
        keys = wanted.setdefault(field, set() if key else None)
        if keys is not None:
            keys.add(key)
    return {
        field: x if (keys := wanted[field]) is None else {key: each for key, each in x.items() if key in keys}
        for field, x in document.items()
        if field in wanted
    }
