"""Access to the dashboard: senders whose requests it takes, and its answers without its servers."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from typing import Annotated, Literal, NotRequired, TypedDict

import httpx
import pytest
import trialstream as ts
from trialstream_console.dashboard import access
from trialstream_console.dashboard.app import ENDPOINTS, make_app
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.settings import Settings
from trialstream_console.dashboard.shapes import Limits, checked, schema_of
from trialstream_console.dashboard.static import BUNDLE, _compressed

TOKEN = "a token of thirty-two characters"
NAME = "0123456789abcdef"
COOKIE = "trialstream_dashboard"
NOWHERE = ts.Config(kafka="127.0.0.1:1", mongo="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100")


def client(base="http://127.0.0.1:8790", **settings):
    """Return a client of an application whose servers are not started."""
    app = make_app(Settings(**settings), NOWHERE)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"host": "0.0.0.0"}, "TRIALSTREAM_DASHBOARD_TOKEN"),
        ({"host": "dashboard.example"}, "can be reached from other machines"),
        ({"host": "0.0.0.0", "token": "short"}, "at least 16"),
        ({"token": "sixteen ümlauts!!"}, "printable characters of ASCII"),
        ({"proxy_header": "X User"}, "the name of a header"),
        ({"port": 70000}, "0 to 65535"),
    ],
)
def test_settings_that_are_refused(settings, named):
    """Bound to more than this machine, a dashboard needs a token or a proxy; the error names the setting."""
    with pytest.raises(ts.ConfigError, match=named):
        Settings(**settings)


def test_settings_go_through_the_environment(monkeypatch, tmp_path):
    """Workers read the settings that the command has chosen, and no text shows the token."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    monkeypatch.setenv("TRIALSTREAM_DASHBOARD_PROXY_HEADER", "X-User")
    chosen = Settings.from_env(host="0.0.0.0", port=1234, token_file=str(file), writes=True)
    for name, value in chosen.environment().items():
        monkeypatch.setenv(name, value)

    assert Settings.from_env() == chosen
    assert (chosen.token, chosen.writes) == (TOKEN, True)
    assert TOKEN not in repr(chosen)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8790", 200),
        ("localhost:8790", 200),
        ("[::1]:8790", 200),
        ("127.8.8.8", 200),
        ("evil.example:8790", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[::1", 400),
    ],
)
async def test_the_host_header_on_loopback(host, status):
    """A request that another site's name has led here (DNS rebinding) is refused."""
    async with client() as found:
        answer = await found.get("/", headers={"Host": host})

    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/", "/trials?where=a", "/api/v1/about", "/static/none.js", "/login"])
async def test_security_headers(path):
    """Each answer forbids content of other servers, inline code, frames and guesses of types."""
    async with client(token=TOKEN) as found:
        headers = (await found.get(path)).headers

    assert headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


async def test_requests_of_other_sites():
    """The API answers no request that a page of another site has made; a link to a page works."""
    headers = {"Sec-Fetch-Site": "cross-site"}
    async with client() as found:
        api, linked = await found.get("/api/v1/about", headers=headers), await found.get("/trials", headers=headers)

    assert (api.status_code, linked.status_code) == (403, 200)


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({}, False),
        ({"Authorization": f"Bearer {TOKEN}"}, True),
        ({"Authorization": f"bearer  {TOKEN} "}, True),
        ({"Authorization": f"Basic {TOKEN}"}, False),
        ({"Authorization": f"Bearer {TOKEN}x"}, False),
        ({"Cookie": f"trialstream_dashboard={TOKEN}"}, False),
        ({"Cookie": "trialstream_dashboard=9999999999.00"}, False),
        ({"Cookie": f"trialstream_dashboard=9999999999.{16 * 'a'}.{64 * '0'}"}, False),
        ({"Cookie": f"trialstream_dashboard=\u0661.{16 * 'a'}.{64 * '0'}".encode()}, False),
        ({"X-User": "mallory"}, False),
    ],
    ids=str,
)
async def test_the_token(headers, is_allowed):
    """The token is in a header, or signs the cookie; nothing else helps."""
    async with client(token=TOKEN, host="0.0.0.0", base="http://dashboard.example") as found:
        answer = await found.get("/trials", headers=headers)

    assert answer.status_code == (200 if is_allowed else 303)


@pytest.mark.parametrize(
    "other",
    [
        *('prefs={"a":1}', "foo", "a=b c", "a[0]=1", "a/b=1", f"{COOKIE}=1", f"{COOKIE}=9999999999.{NAME}.{64 * '0'}"),
        *(f'a="{60_000 * "_"}"', ";" * 60_000, f"{COOKIE}=1.{NAME}.{64 * '0'};" * 500),
        # A minute each in the parser of Python 3.11.7.
        *(each.replace("_", "\\") for each in (f'a="{60_000 * "_"}"', f'a="{30_000 * "_1"}"')),
    ],
    ids=lambda other: repr(other[:30]),
)
async def test_cookies_of_other_programs(other):
    """A cookie that another program of this machine has set does not end a login, and takes no time."""
    own = f"trialstream_dashboard={access._signed(2_000_000_000, NAME, TOKEN)}"
    async with client(token=TOKEN, host="0.0.0.0", base="http://dashboard.example") as found:
        answer = await found.get("/trials", headers={"Cookie": f"{other}; {own}"})

    assert answer.status_code == 200


def test_a_cookie_ends():
    """A cookie is as good as the token until its end, and not with another token, end or name."""
    value = access._signed(2_000_000_000, NAME, TOKEN)

    assert access._login_of(f"{COOKIE}={value}", TOKEN) == NAME
    assert not access._login_of(f"{COOKIE}={value}", TOKEN + "x")
    assert not access._login_of(f"{COOKIE}={value}".replace("2000000000", "3000000000"), TOKEN)
    assert not access._login_of(f"{COOKIE}={value}".replace(NAME, NAME[::-1]), TOKEN)
    assert not access._login_of(f"{COOKIE}={access._signed(1_000_000_000, NAME, TOKEN)}", TOKEN)


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:1", "/\r\nx"]
)
async def test_a_login_leads_to_this_server_only(target):
    """The page after a login is one of this server, whatever the form says; and the page shows texts as texts."""
    async with client(token=TOKEN) as found:
        form = await found.get("/login", params={"next": '/"><script>'})
        answer = await found.post("/login", data={"token": TOKEN, "next": target})

    assert answer.headers["location"] == "/"
    assert "<script>" not in form.text


async def wrong(found, count, *, bearer):
    """Send wrong tokens; return the statuses of the answers."""
    if bearer:
        headers = {"Authorization": "Bearer wrong"}
        return [(await found.get("/api/v1/openapi.json", headers=headers)).status_code for _ in range(count)]
    return [(await found.post("/login", data={"token": "wrong"})).status_code for _ in range(count)]


async def test_wrong_tokens_are_limited():
    """After some wrong tokens of programs and of the form together, a client has to wait with the right one, too."""
    async with client(token=TOKEN) as found:
        statuses = await wrong(found, 6, bearer=True) + await wrong(found, 6, bearer=False)
        right = await found.get("/api/v1/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
        login = await found.post("/login", data={"token": TOKEN})
        more = await wrong(found, 1, bearer=True)

    assert statuses == [401] * 6 + [403] * 4 + [429] * 2
    assert (right.status_code, login.status_code, more) == (429, 429, [429])
    assert right.json()["error"]["code"] == "too_many"
    assert 1 <= int(right.headers["retry-after"]) <= 10


async def test_right_tokens_and_logins_are_not_limited():
    """Only wrong tokens count, and those of others do not end a login."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with client(token=TOKEN) as found:
        right = [(await found.get("/api/v1/openapi.json", headers=headers)).status_code for _ in range(15)]
        logins = [(await found.post("/login", data={"token": TOKEN})).status_code for _ in range(15)]
        await wrong(found, 20, bearer=True)
        own = await found.get("/api/v1/openapi.json")  # with the cookie of the login

    assert (right, logins, own.status_code) == ([200] * 15, [303] * 15, 200)


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        ({"proxy_header": "X-User"}, {"X-User": "ada"}, {"X-User": "grace"}),
        (
            {"token": TOKEN},
            {"Cookie": f"trialstream_dashboard={access._signed(2_000_000_000, 'a' * 16, TOKEN)}"},
            {"Cookie": f"trialstream_dashboard={access._signed(2_000_000_000, 'b' * 16, TOKEN)}"},
        ),
    ],
    ids=["users of a proxy", "logins"],
)
async def test_the_rate_is_of_a_user(settings, first, second, monkeypatch):
    """Users behind one proxy have the same address; each has limits of their own."""
    monkeypatch.setattr("trialstream_console.dashboard.app._BURST", 3.0)
    monkeypatch.setattr("trialstream_console.dashboard.app._RATE", 0.001)
    async with client(host="0.0.0.0", base="http://dashboard.example", **settings) as found:
        ada = [(await found.get("/api/v1/openapi.json", headers=first)).status_code for _ in range(5)]
        grace = await found.get("/api/v1/openapi.json", headers=second)

    assert ada == [200] * 3 + [429] * 2
    assert grace.status_code == 200


async def test_a_proxy_names_the_user():
    """Behind a proxy that checks logins, its header lets a request in; there is no form without a token."""
    async with client(proxy_header="X-User", host="0.0.0.0", base="http://dashboard.example") as found:
        without, named = await found.get("/trials"), await found.get("/trials", headers={"X-User": "ada"})
        form = await found.post("/login", data={"token": ""})

    assert (without.status_code, named.status_code, form.status_code) == (401, 200, 403)
    assert "X-User" in without.json()["error"]["message"]


@pytest.mark.parametrize("host", ["[", "[::1", "a]b", "\u2100".encode(), "a/b", "a?b", "a b", "x" * 60_000])
async def test_hostile_hosts(host):
    """A request with any Host header gets an answer of the server, and causes no error in it."""
    async with client(token=TOKEN, host="0.0.0.0") as found:
        headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
        answers = [
            await found.get(path, headers=headers) for path in ("/trials/a?b=c", "/api/v1/openapi.json", "/login")
        ]
        answers.append(await found.post("/login", data={"token": TOKEN}, headers=headers))
        answers.append(await found.delete("/api/v1/about", headers=headers))

    assert {each.status_code for each in answers} <= {200, 303, 400, 404}


async def test_large_bodies():
    """A body beyond the limit is refused while it is read."""
    async with client(token=TOKEN) as found:
        answer = await found.post("/login", content=b"token=" + b"x" * 10**6)

    assert answer.status_code == 413


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", ".hidden", "a/b", "none.js", "index.html/"])
async def test_files_outside_of_the_bundle(name):
    """Only files of the bundle's folder are served."""
    async with client() as found:
        answer = await found.get(f"/static/{name}")

    assert answer.status_code == 404


async def test_a_file_is_compressed_once(monkeypatch, tmp_path):
    """Each request gets the same bytes; a file that has changed is another one."""
    monkeypatch.setattr("trialstream_console.dashboard.static.BUNDLE", tmp_path)
    file = tmp_path / "main.js"
    file.write_text(f"{tmp_path};" * 2000)
    before = _compressed.cache_info().misses
    async with client() as found:
        texts = [(await found.get("/static/main.js")).text for _ in range(3)]
        file.write_text("2;" * 2001)
        changed = (await found.get("/static/main.js")).text

    assert texts == [f"{tmp_path};" * 2000] * 3
    assert changed == "2;" * 2001
    assert _compressed.cache_info().misses == before + 2


async def test_files_of_the_bundle(monkeypatch, tmp_path):
    """A file with a hash in its name never changes; others are checked by their ETag; the page is that of all paths."""
    monkeypatch.setattr("trialstream_console.dashboard.static.BUNDLE", tmp_path)
    (tmp_path / "main-ABCDEF12.js").write_text("1;" * 2000)
    (tmp_path / "index.html").write_text("<!doctype html>")
    async with client() as found:
        script = await found.get("/static/main-ABCDEF12.js")
        page, missing = await found.get("/trials/a_0"), await found.get("/nothing")
        again = await found.get("/trials/a_0", headers={"If-None-Match": page.headers["etag"]})

    assert "immutable" in script.headers["cache-control"]
    assert (script.headers["content-encoding"], script.text) == ("gzip", "1;" * 2000)
    assert (page.status_code, page.text, page.headers["cache-control"]) == (200, "<!doctype html>", "no-cache")
    assert (missing.status_code, again.status_code) == (404, 304)
    assert BUNDLE.name == "static"


@asynccontextmanager
async def running(app):
    """Run an application with its start and end; yields a client of it."""
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope, receive, send):
            await app({**scope, "state": dict(state)}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://127.0.0.1") as found:
            yield found


async def test_without_servers():
    """`/about` says which servers are away, and other requests are answered with that error, in its one form."""
    async with running(make_app(Settings(), NOWHERE)) as found:
        trials = await found.get("/api/v1/trials")
        about = (await found.get("/api/v1/about")).json()
        deleted, unknown = await found.delete("/api/v1/about"), await found.get("/api/v2/about")

    assert trials.status_code == 503
    assert trials.json()["error"]["code"] == "mongo_away"
    assert about["mongo"] != "ok"
    assert deleted.status_code == 404
    assert unknown.json()["error"]["code"] == "not_found"
    assert all(each.method == "POST" for each in ENDPOINTS if each.writes)


def test_every_endpoint_is_described():
    """Each endpoint has a docstring, and each of its parameters a description."""
    for each in ENDPOINTS:
        assert inspect.getdoc(each.function), each.path
        for name, (kind, _) in each.in_query.items():
            assert schema_of(kind, {}).get("description"), (each.path, name)


def test_the_state_is_shown_at_once():
    """The request by which pages show the state of the servers does not wait behind other requests of a client."""
    assert {each.path for each in ENDPOINTS if each.places is None} == {"/about", "/live"}


class Part(TypedDict):
    """A part.

    Attributes:
        name: Its name.
    """

    name: str
    size: NotRequired[Annotated[float, Limits("Its size.", 0, 10)]]
    kind: NotRequired[Literal["a", "b"] | None]


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ([], ""),
        ({}, "name"),
        ({"name": 1}, "name"),
        ({"name": "x", "size": 11}, "size"),
        ({"name": "x", "size": True}, "size"),
        ({"name": "x", "size": 10**400}, "size"),
        ({"name": "x", "kind": "c"}, "kind"),
        ({"name": "x", "colour": 1}, "colour"),
    ],
    ids=["no object", "missing", "a type", "a limit", "a flag", "beyond doubles", "a choice", "unknown"],
)
def test_bodies_are_checked(given, place):
    """A value that does not fit is refused with its place."""
    with pytest.raises(Refusal) as caught:
        checked(given, Part, "")

    assert caught.value.body["error"].get("place", "") == place


def test_a_body_that_fits():
    """Values that fit are passed on, and whole numbers become floats where the type is one."""
    found = checked({"name": "x", "size": 3, "kind": None}, Part, "")

    assert (found, type(found["size"])) == ({"name": "x", "size": 3.0, "kind": None}, float)
