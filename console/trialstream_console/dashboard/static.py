"""The page's files: `index.html` for the paths of pages, and the bundle under `/static/`."""

from __future__ import annotations

import contextlib
import mimetypes
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from trialstream_schemas.errors import TrialStreamError

from trialstream_console.dashboard.answers import compressed, content
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.refusals import Refusal

__all__ = ["BUNDLE", "page", "static_file"]

BUNDLE = Path(__file__).parent / "static"
"""Folder of the files that the build of `page/` writes."""

_NOT_BUILT = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>trialstream: the page is not built</title>
</head>
<body>
<main>
<h1>The page is not built</h1>
<p>The server runs, and its <a href="/api/v1/openapi.json">API</a> answers, but this installation has no page. Wheels
have one; in a clone of the repository, <code>make page</code> builds it.</p>
</main>
</body>
</html>
"""
# Paths that the page shows; it says of all others that there is no such page.
_PAGES = re.compile(r"/|/(projects|groups)(/.*)?|/trials(/.*)?|/compare|/operations")
# The page of a trial by the request that created it.
_UNDECIDED = re.compile(r"/trials/([0-9a-f]{16,128}~[0-9a-f]{1,128})")
# Files with a hash of their content in the name, such as page-K3X2A7QZ.js, never change.
_HASHED = re.compile(r".*-[A-Z0-9]{8}\.\w+")
_LEVEL = 9
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class _File(NamedTuple):
    body: bytes
    media: str


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> _File:  # noqa: ARG001 (a changed file is another one)
    return _File(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")


@lru_cache(maxsize=128)
def _compressed(body: bytes, name: str) -> bytes:
    """Compress a file once for all requests, so it may take longer: 10% fewer bytes than at the level of answers."""
    return compressed(body, name, _LEVEL)


def _find(name: str) -> _File | None:
    path = BUNDLE / name
    if not _NAME.fullmatch(name):
        return None
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError:
        return None


async def page(request: Request) -> Response:
    """Answer the path of a page.

    `t.url` of a tracker may have the address of a trial whose revision was not decided when it was created: it leads to
    the page of the trial.
    """
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    if (address := _UNDECIDED.fullmatch(path)) is not None:
        context: Context = request.state.context
        with contextlib.suppress(TrialStreamError, Refusal):
            uid = await (await context.protocol()).created_uid(address[1])
            return RedirectResponse(f"/trials/{quote(uid)}" + (f"?{query}" if query else ""), 307)
    found = _find("index.html")
    status = 200 if _PAGES.fullmatch(path) else 404
    if found is None:
        return content(request, _NOT_BUILT, "text/html", etag=False, status=status)
    answer = content(request, found.body, "text/html", etag=status == 200, status=status, compress=_compressed)
    answer.headers["cache-control"] = "no-cache"
    return answer


async def static_file(request: Request) -> Response:
    """Answer the path of a file of the bundle."""
    name = request.path_params["name"]
    found = _find(name)
    if found is None:
        return Response("There is no such file.\n", 404, media_type="text/plain")
    answer = content(request, found.body, found.media, etag=True, compress=_compressed)
    is_fixed = _HASHED.fullmatch(name) is not None
    answer.headers["cache-control"] = "public, max-age=31536000, immutable" if is_fixed else "no-cache"
    return answer
