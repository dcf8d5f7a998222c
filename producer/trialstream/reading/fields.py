"""Fields of partial objects: the paths that users pass as `fields` to `fetch_*`, as a projection for MongoDB.

A partial object has the fields that identify it, so that its uid is right, and the fields that were asked for. Fields
of users' keys, such as `metrics` and `parameters`, can be read key by key; a longer path reads the whole value of its
key, so a partial object never has a part of an aggregator, of an error or of a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trialstream_schemas.errors import QueryError
from trialstream_schemas.messages import shown

from trialstream.reading.operands import query_errors
from trialstream.reading.paths import FIELDS, resolve

__all__ = ["ATTEMPT_FIELDS", "KEYED_FIELDS", "PartialFields", "partial_fields"]

# By collection, the fields from which the uid is made; the name, which every object has; and the time of creation,
# which distinguishes fetched objects from new ones.
_IDENTITY = {
    "trials": ("hash", "revision", "name", "created"),
    "groups": ("name", "project_id", "created"),
    "projects": ("name", "created"),
}
# By collection, the lists of uids that are read from other collections.
_MEMBERS: dict[str, frozenset[str]] = {
    "trials": frozenset(),
    "groups": frozenset({"trials"}),
    "projects": frozenset({"groups", "trials"}),
}
KEYED_FIELDS = frozenset(
    {
        *("parameters", "metadata", "tags", "metrics", "chronos", "open_chronos", "failed_chronos", "writers"),
        *("participants", "former_participants"),
    }
)
"""Fields of users' keys, which can be read and indexed key by key."""


class PartialFields(NamedTuple):
    """Fields to read.

    Attributes:
        projection: The projection for MongoDB; None for the whole document.
        members: Lists of uids to read: `trials` of a group, `groups` and `trials` of a project.
    """

    projection: dict[str, int] | None
    members: frozenset[str]


def partial_fields(fields: Sequence[str] | None, collection: str) -> PartialFields:
    """Check and translate the fields to read.

    Args:
        fields: Paths as in queries, `trials` of a group, `groups` and `trials` of a project; None for all fields.
        collection: `trials`, `groups` or `projects`.

    Returns:
        The fields, with those that identify the object.

    Raises:
        QueryError: The fields are not a list of paths, or a field does not exist; the message names it.
    """
    members = _MEMBERS[collection]
    if fields is None:
        return PartialFields(None, members)
    if not isinstance(fields, (list, tuple)):
        raise QueryError(f"fields: expected a list of paths, got {shown(fields)}")
    known = {**FIELDS[collection], **{name: name for name in members}}
    wanted = {*_IDENTITY[collection]}
    for given in fields:
        if not isinstance(given, str):
            raise QueryError(f"fields: expected paths of type str, got {shown(given)}")
        with query_errors():
            field, *keys = resolve(given, known).split(".")
        wanted.add(f"{field}.{keys[0]}" if keys and field in KEYED_FIELDS else field)
    # MongoDB refuses a projection of a field and of a key in it.
    plain = {
        path: 1 for path in sorted(wanted - members) if path.split(".")[0] == path or path.split(".")[0] not in wanted
    }
    return PartialFields(plain, members & wanted)


ATTEMPT_FIELDS = partial_fields(["attempts", "participants", "former_participants"], "trials").projection
"""Projection of the fields that decide which rows are superseded, and which rank a writer has."""
