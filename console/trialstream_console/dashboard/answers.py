"""Answers: JSON, compressed and with an ETag where that pays, and errors in their one form."""

from __future__ import annotations

import gzip
import hashlib
import math
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from trialstream_console.dashboard.encoding import TooLong, dumps
from trialstream_console.dashboard.refusals import Refusal

__all__ = ["content", "json_answer", "refused"]

# A browser holds the text and what it reads from it. A trial of 12 MiB, the largest that there is, takes some 20 MB.
_MAX_BYTES = 64_000_000
# Below this, the header of gzip and its time cost more than the bytes.
_LEAST_COMPRESSED = 1024
# Level 4 takes half of the time of 6 for 3% more bytes of a table of trials (measured).
_LEVEL = 4


def json_answer(request: Request, payload: Any, *, etag: bool = False, status: int = 200) -> Response:
    """Return plain values as an answer. A large one takes long: `Context.compute` runs this in a thread.

    Args:
        request: The request.
        payload: Plain values, as `encoding.encoded` makes them.
        etag: Whether an answer that the client has is not sent again.
        status: Status of the answer.

    Raises:
        Refusal: The answer would be too large.
    """
    try:
        body = dumps(payload, _MAX_BYTES)
    except TooLong:
        raise Refusal(
            "too_large",
            f"the answer: expected at most {_MAX_BYTES // 10**6} MB, got more: ask for fewer rows or columns; "
            "the fetch_* methods of trialstream.connect() read values of any size",
        ) from None
    answer = content(request, body, "application/json", etag=etag, status=status)
    answer.headers.setdefault("cache-control", "no-cache" if etag else "no-store")
    return answer


def content(request: Request, body: bytes, media: str, *, etag: bool, status: int = 200) -> Response:
    """Return bytes as an answer, compressed if the client takes that.

    Args:
        request: The request.
        body: The bytes.
        media: Their media type.
        etag: Whether an answer that the client has is not sent again.
        status: Status of the answer.
    """
    headers = {"vary": "accept-encoding"}
    if etag:
        # Weak, since the compressed and the plain answer have the same one.
        headers["etag"] = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        if headers["etag"] in _etags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
    if len(body) >= _LEAST_COMPRESSED and _takes_gzip(request):
        body = gzip.compress(body, _LEVEL, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, status, headers, media)


def refused(request: Request, refusal: Refusal) -> Response:
    """Return the answer of a refusal.

    Args:
        request: The request.
        refusal: The refusal.
    """
    answer = json_answer(request, refusal.body, status=refusal.status)
    if refusal.retry_after is not None:
        answer.headers["retry-after"] = str(math.ceil(refusal.retry_after))
    return answer


def _takes_gzip(request: Request) -> bool:
    given = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    return any(each.partition(";")[0] == "gzip" and not each.endswith(";q=0") for each in given)


def _etags(header: str) -> set[str]:
    return {each.strip() for each in header.split(",")}
