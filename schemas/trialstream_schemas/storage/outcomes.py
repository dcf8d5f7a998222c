"""Conversion of outcomes to MongoDB documents and back.

Earlier versions stored an outcome under the id of its request alone, and look for it there. So

- a document of an earlier version is read, if it may be that of the same subject;
- an outcome whose writer may be of an earlier version has a copy under the id of its request. The log does not
  determine the copy if two subjects use one request: the fold and readers of this version use it for its own subject
  only, and `verify` does not compare it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.model.outcome import Outcome

__all__ = [
    "COPY_OF",
    "outcome_copy",
    "outcome_from_document",
    "outcome_to_document",
    "stored_outcome",
    "stored_outcome_ids",
]

COPY_OF = "copy_of"
"""Field of the copy of an outcome: the id of the outcome."""

# The requests of writers of earlier versions, and of runs, whose ids are the same in all versions.
_EARLIER_REQUEST = re.compile("[0-9a-f]{24}|[0-9a-f]{32}")


def outcome_to_document(outcome: Outcome) -> dict[str, Any]:
    """The document of an outcome."""
    return {"_id": outcome.id, "uid": outcome.uid, "applied": outcome.applied, "reason": outcome.reason}


def outcome_from_document(document: Mapping[str, Any]) -> Outcome:
    """The outcome of a document that `outcome_to_document` made."""
    return Outcome(document["_id"], document["uid"], document["applied"], document["reason"])


def outcome_copy(outcome: Outcome) -> dict[str, Any] | None:
    """The copy of an outcome for writers of earlier versions; None if its request is not one of theirs."""
    request = _request_of(outcome.id)
    if not _EARLIER_REQUEST.fullmatch(request):
        return None
    return {**outcome_to_document(outcome), "_id": request, COPY_OF: outcome.id}


def stored_outcome_ids(id_: str) -> tuple[str, str]:
    """The ids of the documents that may hold an outcome: its own, and that which earlier versions gave it.

    Args:
        id_: Id of the outcome.
    """
    return id_, _request_of(id_)


def stored_outcome(id_: str, found: Mapping[str, Mapping[str, Any] | None]) -> Outcome | None:
    """The outcome with an id; None if there is none, or only one of another subject with the same request.

    Args:
        id_: Id of the outcome.
        found: Documents by `_id`, with those of `stored_outcome_ids` that exist.
    """
    own, earlier = (found.get(each) for each in stored_outcome_ids(id_))
    if own is not None:
        return outcome_from_document(own)
    if earlier is None or earlier.get(COPY_OF, id_) != id_:
        return None
    subject, _, rest = id_.rpartition("~")
    uid = earlier["uid"]
    # A refusal of an earlier version names no subject. It changes nothing, whatever request is taken for it.
    if uid is not None and (uid if "/" in rest else hash_of(uid)) != subject:
        return None
    return Outcome(id_, uid, earlier["applied"], earlier["reason"])


def _request_of(outcome_id: str) -> str:
    return outcome_id.rpartition("~")[2].partition("/")[0]
