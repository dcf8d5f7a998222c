"""Answers: JSON and bytes, compressed and with an ETag where that pays, and errors in their one form."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import cramjam
from starlette.requests import Request
from starlette.responses import Response

from trialstream_console.dashboard.encoding import TooLong, dumps
from trialstream_console.dashboard.refusals import Refusal

__all__ = ["compressed", "content", "json_answer", "refused"]

# A browser holds the text and what it reads from it. A trial of 12 MiB, the largest that there is, takes some 20 MB.
_MAX_BYTES = 64_000_000
# Below this, a header and the time cost more than the bytes.
_LEAST_COMPRESSED = 1024
# By name, the best first. Of 3.2 MB of curves, zstd saves 1.25 MB in 9 ms of the processor and gzip 1.1 MB in 21 ms; of
# 0.6 MB of a table, 0.42 MB in 2 ms and 0.39 MB in 4 ms. The gzip of zlib takes three times as long, and higher levels
# save a few percent in twice the time. So clients on this machine get compressed answers, too: it costs little, and
# some of them are at the other end of an SSH tunnel. Browsers take zstd over TLS and from localhost.
_LEVEL = 1
_COMPRESSIONS: Mapping[str, Callable[[bytes, int], Any]] = {
    "zstd": cramjam.zstd.compress,
    "gzip": cramjam.gzip.compress,
}


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


def compressed(body: bytes, name: str, level: int = _LEVEL) -> bytes:
    """Return compressed bytes.

    Args:
        body: The bytes.
        name: Name of the compression.
        level: Its level; a higher one takes longer and makes less.
    """
    return bytes(_COMPRESSIONS[name](body, level))


def content(
    request: Request,
    body: bytes,
    media: str,
    *,
    etag: bool,
    status: int = 200,
    compress: Callable[[bytes, str], bytes] = compressed,
) -> Response:
    """Return bytes as an answer, compressed if the client takes that: for large ones, in a thread.

    Args:
        request: The request.
        body: The bytes.
        media: Their media type.
        etag: Whether an answer that the client has is not sent again.
        status: Status of the answer.
        compress: Returns the bytes compressed, by the name of the compression.
    """
    headers = {"vary": "accept-encoding"}
    if etag:
        # Weak, since the compressed and the plain answer have the same one.
        headers["etag"] = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        if headers["etag"] in _etags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
    if len(body) >= _LEAST_COMPRESSED and (name := _compression(request)):
        body = compress(body, name)
        headers["content-encoding"] = name
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


def _compression(request: Request) -> str:
    """Return the name of the best compression that a client takes; empty if it takes none."""
    given = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    parted = [each.partition(";q=") for each in given]
    taken = {name for name, _, quality in parted if not quality or quality.strip("0.")}
    return next((name for name in _COMPRESSIONS if name in taken), "")


def _etags(header: str) -> set[str]:
    return {each.strip() for each in header.split(",")}
