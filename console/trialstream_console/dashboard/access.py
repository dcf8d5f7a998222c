"""The checks of who may send requests, and the headers that keep other sites out.

- A server that only this machine can reach takes every request whose `Host` is this machine: the page of another site
  whose name is made to point here (DNS rebinding) sends that name.
- Otherwise, a request must have the token, in `Authorization: Bearer` or in the cookie of a login, or the header in
  which a trusted proxy names the user. The cookie has the name of the login and its end, signed by the token: so any
  worker checks it. Wrong tokens are counted, those of programs and those of the form alike.
- A request to the API that a page of another site has made is refused, with or without a login.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import ipaddress
import re
import secrets
import time
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trialstream_console.dashboard.answers import refused
from trialstream_console.dashboard.limits import Rate, network_of, read_body
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.settings import Settings

__all__ = ["LOGIN_PATH", "SECURITY_HEADERS", "Access", "Token", "login"]

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
_WRONG_PER_SECOND, _WRONG_BURST = 0.1, 10.0
_MAX_FORM_BYTES = 16 * 1024
_MAX_USER = 256  # characters: names are kept for the limits
_OPEN_PATHS = (LOGIN_PATH, "/static/")  # the program of the page has no data
_API = "/api/"
_LOGIN = re.compile(_COOKIE + r"=(([0-9]{1,12})\.([0-9a-f]{16})\.[0-9a-f]{64})")


class Token:
    """The token, and the number of wrong ones that each client has sent.

    Args:
        text: The token; empty if there is none, so that all are wrong.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._wrong = Rate(_WRONG_PER_SECOND, _WRONG_BURST)

    def is_right(self, given: str, client: str) -> bool:
        """Whether a text is the token; one that is not is counted.

        Args:
            given: The text.
            client: Text that identifies the client.

        Raises:
            Refusal: The client has sent too many wrong ones, so this one is not looked at.
        """
        self._wrong.check(client)
        if self._text and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._text.encode()):
            return True
        self._wrong.take(client)
        return False


class Access:
    """ASGI middleware that refuses requests which may not be answered, and adds the security headers.

    It sets `scope["state"]["client"]`, a text that identifies the client, for the limits: the user whom the proxy has
    named, the login, or else the address.

    Args:
        app: The application.
        settings: The settings.
        token: The token.
    """

    def __init__(self, app: ASGIApp, settings: Settings, token: Token) -> None:
        self._app = app
        self._settings = settings
        self._token = token

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

        try:
            answer = self._refused(scope)
        except Refusal as refusal:
            answer = refused(Request(scope), refusal)
        await (answer or self._app)(scope, receive, send_secured)

    def _refused(self, scope: Scope) -> Response | None:
        """Identify the client of a request; return the answer if the request is refused."""
        headers, path, settings = Headers(scope=scope), scope["path"], self._settings
        user = headers.get(settings.proxy_header, "")[:_MAX_USER] if settings.proxy_header else ""
        name = _login_of(headers.get("cookie", ""), settings.token) if settings.token else ""
        address = network_of(scope["client"][0]) if scope.get("client") else "local"
        client = f"user {user}" if user else f"login {name}" if name else address
        scope.setdefault("state", {})["client"] = client
        host = _name_of(headers.get("host", ""))
        if host is None:
            return Response("Expected a name or an address in the Host header.\n", 400, media_type="text/plain")
        if settings.is_loopback and not _is_this_machine(host, settings.host):
            return Response("The Host header names another machine.\n", 421, media_type="text/plain")
        if path.startswith(_API) and headers.get("sec-fetch-site") == "cross-site":
            return Response("The API takes no requests of other sites.\n", 403, media_type="text/plain")
        if path.startswith(_OPEN_PATHS) or user or name or not settings.is_guarded:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._token.is_right(given.strip(), client):
            return None
        return _demand_login(scope, settings)


def _demand_login(scope: Scope, settings: Settings) -> Response:
    if scope["path"].startswith(_API) or not settings.token:
        wanted = "the token: Authorization: Bearer TOKEN, or a login at /login"
        if not settings.token:
            wanted = f"a request of the proxy, with the header {settings.proxy_header}"
        answer = refused(Request(scope), Refusal("unauthorized", f"expected {wanted}"))
        answer.headers["www-authenticate"] = "Bearer"
        return answer
    query = scope.get("query_string", b"").decode("latin-1")
    target = quote(scope["path"] + (f"?{query}" if query else ""), safe="")
    return RedirectResponse(f"{LOGIN_PATH}?next={target}", 303)


async def login(request: Request, settings: Settings, token: Token) -> Response:
    """Answer the form for the token: GET shows it, POST sets the cookie and goes on to the page that was asked for.

    Args:
        request: The request.
        settings: The settings.
        token: The token.

    Raises:
        Refusal: The form is too large, or the client has sent too many wrong tokens.
    """
    if request.method != "POST":
        return _form(_local_path(request.query_params.get("next", "")))
    given = _fields(await read_body(request, _MAX_FORM_BYTES))
    target = _local_path(given.get("next", [""])[0])
    if not token.is_right(given.get("token", [""])[0].strip(), request.state.client):
        return _form(target, "This is not the token.", 403)
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        _COOKIE,
        _signed(int(time.time()) + _LOGIN_SECONDS, secrets.token_hex(8), settings.token),
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
    return "https" in (request.scope["scheme"], request.headers.get("x-forwarded-proto", ""))


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


def _signed(end: int, name: str, token: str) -> str:
    """Return the cookie of a login: its end, its name, and the signature of both."""
    signature = hmac.new(token.encode(), f"trialstream dashboard login {name} until {end}".encode(), hashlib.sha256)
    return f"{end}.{name}.{signature.hexdigest()}"


def _login_of(cookies: str, token: str) -> str:
    """Return the name of the login that a `Cookie` header has; empty if it has none of this token, or an old one.

    Parsers of cookies take minutes for some headers (CVE-2024-7592), or end at a cookie of another program that is in
    no standard form.
    """
    for cookie in cookies.split(";"):
        parsed = _LOGIN.fullmatch(cookie.strip())
        if parsed is not None:
            end, name = int(parsed[2]), parsed[3]
            if hmac.compare_digest(parsed[1], _signed(end, name, token)) and end > time.time():
                return name
    return ""


def _name_of(host: str) -> str | None:
    """Return the name in a `Host` header, without the port; None if the header is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return None


def _is_this_machine(name: str, bound: str) -> bool:
    """Whether a name is this machine: a loopback address, `localhost`, or the name of the setting."""
    if name in ("localhost", bound.lower()):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
