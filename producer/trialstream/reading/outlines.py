"""Reading the outlines of histories from MongoDB, in place of their full buckets.

The open buckets are read first. The outlines of all full buckets before them are there then, if they were ever written,
so both queries need no common snapshot, and the outlines of buckets that fill up meanwhile are left aside.
"""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from trialstream_schemas.model.history import Bucket, Shape
from trialstream_schemas.model.keys import escape_key
from trialstream_schemas.model.outline import Outline, has_outlines, outline_ids, outline_number, outline_of, together

from trialstream.reading.buckets import columns_of, open_buckets
from trialstream.reading.live import Collections, Document, SyncCollection, run_driver

__all__ = ["read_outlines"]

# MongoDB reads the outlines of some trials while those of others are decoded.
_SHARES = 2
# Documents that the driver decodes in one call, which holds the interpreter: a megabyte of outlines of one name, 5 ms.
_AT_ONCE = 2000


async def read_outlines(
    collections: Collections, uids: Sequence[str], names: Sequence[str], max_time_ms: int
) -> dict[str, dict[str, Outline]]:
    """Read the outlines of metrics, in threads of the driver.

    Args:
        collections: The collections of the projection.
        uids: Uids of the trials.
        names: Names of the metrics, at least one.
        max_time_ms: Maximum time of each request in MongoDB, milliseconds.

    Returns:
        By uid and name, the outlines of those whose steps are numbers and whose full buckets all have outlines.
    """
    series, stored = collections["series"].delegate, collections["outlines"].delegate
    distinct = list(dict.fromkeys(uids))
    shares = [some for i in range(_SHARES) if (some := distinct[i::_SHARES])]
    reads = [functools.partial(_read, series, stored, some, names, max_time_ms) for some in shares]
    found = await asyncio.gather(*map(run_driver, reads))
    return {uid: each for some in found for uid, each in some.items()}


def _read(
    series: SyncCollection[Document],
    stored: SyncCollection[Document],
    uids: Sequence[str],
    names: Sequence[str],
    max_time_ms: int,
) -> dict[str, dict[str, Outline]]:
    parts: defaultdict[tuple[str, str], list[Outline | None]] = defaultdict(list)
    for shape, opened in _shapes(series, uids, names, max_time_ms):
        before: list[Document] = []
        if has_outlines(shape) and opened.number:
            first, end = outline_ids(opened.trial, shape)
            # Without a projection, MongoDB takes less time.
            fields = None if len(opened.shape.names) == len(shape.names) else _fields(names)
            bounds = {"_id": {"$gte": first, "$lt": end}}
            found = stored.find(bounds, fields, batch_size=_AT_ONCE, max_time_ms=max_time_ms)
            before = [each for each in found if outline_number(each) < opened.number]
        is_whole = shape.steps in ("int", "float") and len(before) == opened.number
        for name in opened.shape.names:
            parts[opened.trial, name].append(outline_of(name, before, opened) if is_whole else None)
    by_uid: dict[str, dict[str, Outline]] = {}
    for (uid, name), outlines in parts.items():
        whole = [each for each in outlines if each is not None]
        if len(whole) == len(outlines):
            by_uid.setdefault(uid, {})[name] = together(whole)
    return by_uid


def _fields(names: Sequence[str]) -> Document:
    return dict.fromkeys((f"{part}.{escape_key(name)}" for part in ("rows", "specials") for name in names), 1)


def _shapes(
    series: SyncCollection[Document], uids: Sequence[str], names: Sequence[str], max_time_ms: int
) -> Iterator[tuple[Shape, Bucket]]:
    """Read the open bucket of each shape that has one of the names, with the columns of these names only."""
    wanted = {"section": "metrics", "names": {"$in": list(names)}}
    for opened in open_buckets(uids):
        for each in series.find({**opened, **wanted}, columns_of(names), hint="_id_", max_time_ms=max_time_ms):
            shape = Shape(each["section"], tuple(each["names"]), each["step_type"])
            yield shape, Bucket.from_document(each | {"names": [name for name in each["names"] if name in names]})
