"""Reading the buckets of histories from MongoDB: those that can have the rows that are asked for.

Rows since a number need no index of their own. The open bucket of each shape begins with a row whose number is stored,
and the full buckets before it have `capacity` rows each, so it follows how many of these can have such rows, and their
ids. A poll of a long history therefore scans the ids of its buckets, which are in the index of `_id`, and reads the
open buckets; each full bucket is read only if it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClientSession
from trialstream_schemas.model.history import Bucket, Shape, ids_below
from trialstream_schemas.model.keys import escape_key

from trialstream.protocol import Step
from trialstream.reading.live import Collections, Document
from trialstream.reading.pieces import pieces
from trialstream.reading.reader import Section, Since

__all__ = ["BucketSearch", "columns_of", "open_buckets", "read_buckets"]

# Number of ids in one request. Each has about 70 bytes, and a request at most 16 MB.
_MAX_IDS = 10_000
# Number of trials in one query for open buckets: their ids are as many ranges of the index.
_RANGES = 64
# The end of the id of an open bucket; those of full buckets end with their number.
_OPEN = "/open$"


async def read_buckets(
    collections: Collections,
    session: AsyncIOMotorClientSession,
    uids: Sequence[str],
    section: Section,
    names: Sequence[str],
    since: Since,
    max_time_ms: int,
) -> dict[str, list[Bucket]]:
    """Read the buckets of trials that can have rows since a step or a row, and the open bucket of each shape.

    Args:
        collections: The collections of the projection.
        session: The session; of one snapshot, so that a bucket that fills up is not returned twice, open and full.
        uids: Uids of the trials.
        section: Section of the trials.
        names: Names of the time series to read; empty for all.
        since: The rows to read.
        max_time_ms: Maximum time of each request in MongoDB, milliseconds.

    Returns:
        The buckets of each trial by its uid, in no particular order.
    """
    series, search = collections["series"], BucketSearch(names, since.row)
    wanted: Document = {"section": section}
    fields = None
    if names:
        wanted["names"] = {"$in": list(names)}
        fields = columns_of(names)

    async def read(filter_: Document, **options: Any) -> None:
        async for each in series.find(filter_, fields, session=session, max_time_ms=max_time_ms, **options):
            search.add(each)

    distinct = list(dict.fromkeys(uids))  # the buckets of a uid in two pieces would be read twice
    if since.row is None:
        for trials in pieces(distinct):
            await read({"trial": {"$in": trials}, **wanted, **_of_steps(since.step)})
    else:
        for opened in open_buckets(distinct):
            # MongoDB would choose the index of trials as well, and read each of their buckets.
            await read({**opened, **wanted}, hint="_id_")
        while ids := search.take_missing():
            await read({"_id": {"$in": ids}})
    return search.buckets


def columns_of(names: Iterable[str]) -> Document:
    """Return the projection of buckets to the columns of some names."""
    plain = ("trial", "section", "names", "step_type", "number", "rows", "segments", "steps", "times")
    return dict.fromkeys((*plain, *(f"values.{escape_key(name)}" for name in names)), 1)


def open_buckets(uids: Sequence[str]) -> Iterator[Document]:
    """Return the filters of the open buckets of trials, each for some of them, for queries by the index of `_id`.

    MongoDB goes through the ids of each trial's buckets, about a thousand in a millisecond: they have bounds and one
    plain pattern. With patterns that begin with the uid it takes ten times as long (measured).
    """
    for at in range(0, len(uids), _RANGES):
        ranges = map(ids_below, uids[at : at + _RANGES])
        yield {"$or": [{"_id": {"$gte": first, "$lt": end, "$regex": _OPEN}} for first, end in ranges]}


class BucketSearch:
    """The buckets that were read, and the ids of those before them that are needed too.

    Args:
        names: Names of the time series to read; empty for all.
        row: Minimum number of a row; None if no other buckets are needed.

    Attributes:
        buckets: The buckets of each trial by its uid.
    """

    def __init__(self, names: Sequence[str], row: int | None) -> None:
        self.buckets: dict[str, list[Bucket]] = {}
        self._names = names
        self._row = row
        # By trial and shape, as in the ids of buckets, the smallest number of a bucket that is read or missing.
        self._first: dict[str, int] = {}
        self._missing: list[str] = []

    def add(self, document: Document) -> None:
        """Add the bucket of a document."""
        if self._row is not None:
            self._add_missing(document, self._row)
        if self._names:
            document["names"] = [name for name in document["names"] if name in self._names]
        self.buckets.setdefault(document["trial"], []).append(Bucket.from_document(document, packed=True))

    def _add_missing(self, document: Document, row: int) -> None:
        """Find the buckets before this one that can have rows since `row`."""
        shape = Shape(document["section"], tuple(document["names"]), document["step_type"])
        # At most this many of the rows before the bucket, which are the last ones in the buckets before it. If it is
        # empty, the one before it shows the number of its first row.
        rows = max(0, document["segments"][0][0] - row) if document["segments"] else 1
        number: int = document["number"]
        prefix: str = document["_id"].rpartition("/")[0]
        first = max(0, number - -(-rows // shape.capacity))
        known = self._first.get(prefix, number)
        self._first[prefix] = min(first, known)
        self._missing += [f"{prefix}/{each}" for each in range(first, known)]

    def take_missing(self) -> list[str]:
        """Return the ids of buckets that are needed, at most 10,000; each is returned once."""
        taken, self._missing = self._missing[:_MAX_IDS], self._missing[_MAX_IDS:]
        return taken


def _of_steps(least: Step | None) -> Document:
    """Return the filter of the buckets that can have rows since a step; empty for all.

    Steps that are numbers are packed, and `max_step` is the largest of a full bucket; it is missing if an older
    consumer has filled the bucket. The open bucket of each shape is always read, since it shows which names have a
    history.
    """
    if least is None:
        return {}
    later: Document = {"step_type": "text", "steps": {"$gte": least}}
    if not isinstance(least, str):
        bounds = [{"max_step": {"$gte": least}}, {"max_step": None}]
        later = {"step_type": {"$in": ["int", "float"]}, "$or": bounds}
    return {"$or": [{"_id": {"$regex": _OPEN}}, later]}
