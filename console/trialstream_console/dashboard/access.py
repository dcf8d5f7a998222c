"""The checks of who may send requests, and the headers that keep other sites out.

- A server that only this machine can reach takes every request whose `Host` is this machine: the page of another site
  whose name is made to point here (DNS rebinding) sends that name.
- Otherwise, a request must have the token, in `Authorization: Bearer` or in the cookie of a login, or the header in
  which a trusted proxy names the user. The cookie is a signature by the token, with its end: so any worker checks it.
- A request to the API that a page of another site has made is refused, with or without a login.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import ipaddress
import time
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trialstream_console.dashboard.limits import read_body
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.settings import Settings

__all__ = ["LOGIN_PATH", "SECURITY_HEADERS", "Access", "login"]

LOGIN_PATH = "/login"
"""Path of the form for the token."""

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
        "img-src 'self' data: blob:"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every answer: the page loads from its own server only, and no other page frames it."""

_COOKIE = "trialstream_dashboard"
_LOGIN_SECONDS = 30 * 24 * 3600
_OPEN_PATHS = (LOGIN_PATH, "/static/")  # the program of the page has no data
_API = "/api/"


class Access:
    """ASGI middleware that refuses requests which may not be answered, and adds the security headers.

    It sets `scope["state"]["client"]`, a text that identifies the client, for the limits.

    Args:
        app: The application.
        settings: The settings.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers, path = Headers(scope=scope), scope["path"]
        client = scope["client"][0] if scope.get("client") else "local"
        user = headers.get(self._settings.proxy_header, "") if self._settings.proxy_header else ""
        scope.setdefault("state", {})["client"] = f"user {user}" if user else client
        answer: Response | None = None
        if self._settings.is_loopback and not _is_this_machine(headers.get("host", ""), self._settings.host):
            answer = Response("The Host header names another machine.\n", 421, media_type="text/plain")
        elif path.startswith(_API) and headers.get("sec-fetch-site") == "cross-site":
            answer = Response("The API takes no requests of other sites.\n", 403, media_type="text/plain")
        elif not path.startswith(_OPEN_PATHS) and not user and not self._has_token(headers):
            answer = _demand_login(scope)
        await (answer or self._app)(scope, receive, send_secured)

    def _has_token(self, headers: Headers) -> bool:
        token = self._settings.token
        if not token:
            return not self._settings.proxy_header
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return _equal(given.strip(), token)
        # Not by `http.cookies`, which ends at the first cookie of another program that is in no standard form.
        return _is_signed(cookie_parser(headers.get("cookie", "")).get(_COOKIE, ""), token)


def _demand_login(scope: Scope) -> Response:
    if scope["path"].startswith(_API):
        refusal = Refusal("unauthorized", "expected the token: Authorization: Bearer TOKEN, or a login at /login")
        return JSONResponse(refusal.body, refusal.status, {"www-authenticate": "Bearer"})
    query = scope.get("query_string", b"").decode("latin-1")
    target = quote(scope["path"] + (f"?{query}" if query else ""), safe="")
    return RedirectResponse(f"{LOGIN_PATH}?next={target}", 303)


async def login(request: Request, settings: Settings) -> Response:
    """Answer the form for the token: GET shows it, POST sets the cookie and goes on to the page that was asked for.

    Args:
        request: The request.
        settings: The settings.
    """
    if request.method != "POST":
        return _form(_local_path(request.query_params.get("next", "")))
    given = _fields(await read_body(request))
    target = _local_path(given.get("next", [""])[0])
    if not settings.token or not _equal(given.get("token", [""])[0].strip(), settings.token):
        return _form(target, "This is not the token.", 403)
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        _COOKIE,
        _signed(int(time.time()) + _LOGIN_SECONDS, settings.token),
        max_age=_LOGIN_SECONDS,
        httponly=True,
        samesite="strict",
        secure=_is_https(request),
    )
    return answer


def _fields(body: bytes) -> dict[str, list[str]]:
    """Return the fields of a form; none if it has more than the form here."""
    try:
        return parse_qs(body.decode("latin-1"), max_num_fields=8)
    except ValueError:
        return {}


def _is_https(request: Request) -> bool:
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))


def _form(target: str, trouble: str = "", status: int = 200) -> Response:
    alert = f'<p role="alert">{html.escape(trouble)}</p>' if trouble else ""
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>trialstream: log in</title>
</head>
<body>
<main>
<h1>trialstream</h1>
{alert}
<form method="post" action="{LOGIN_PATH}">
<input type="hidden" name="next" value="{html.escape(target)}">
<p><label for="token">Token of this dashboard (TRIALSTREAM_DASHBOARD_TOKEN)</label></p>
<p><input id="token" name="token" type="password" autocomplete="current-password" required autofocus></p>
<p><button type="submit">Log in</button></p>
</form>
</main>
</body>
</html>
"""
    return HTMLResponse(page, status, {"cache-control": "no-store"})


def _local_path(target: str) -> str:
    """Return the path of a page of this server; `/` for the address of another one."""
    parts = urlsplit(target)
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return target if is_local and target.isprintable() and "\\" not in target else "/"


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _signed(end: int, token: str) -> str:
    signature = hmac.new(token.encode(), f"trialstream dashboard until {end}".encode(), hashlib.sha256)
    return f"{end}.{signature.hexdigest()}"


def _is_signed(cookie: str, token: str) -> bool:
    end = cookie.partition(".")[0]
    if not end.isascii() or not end.isdecimal() or len(end) > 12:
        return False
    return _equal(cookie, _signed(int(end), token)) and int(end) > time.time()


def _is_this_machine(host: str, bound: str) -> bool:
    """Whether a `Host` header names this machine: a loopback address, `localhost`, or the name of the setting."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", bound.lower()):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
