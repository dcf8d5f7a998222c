"""The frame of the views: projects, search, help, states of the connection, hostile names, transferred bytes."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trialstream_console.dashboard as package
from accessibility import findings
from playwright.sync_api import Browser, Page, expect
from trialstream.config import Config

pytestmark = pytest.mark.usefixtures("sample")


def test_from_projects_to_a_group(open_page: Callable[..., Page]):
    """The projects have their groups below them; each leads to its trials, and back."""
    page = open_page("/")
    page.get_by_role("button", name="Groups of vision").click()
    page.get_by_role("link", name="search").click()
    expect(page.get_by_role("heading", name="search")).to_be_visible()
    expect(page.get_by_text("20 trials")).to_be_visible()
    page.get_by_role("link", name="vision").click()
    expect(page.get_by_role("heading", name="vision")).to_be_visible()
    page.go_back()
    page.go_back()
    expect(page.get_by_role("link", name="search")).to_be_visible()


def test_the_keyboard_reaches_everything(open_page: Callable[..., Page]):
    """The first Tab skips to the content; `?` lists the shortcuts; pairs of keys go to the views; `/` searches."""
    page = open_page("/")
    expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_contain_text("Go to operations")
    assert findings(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", name="All trials")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("mlp-003")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="mlp-003")).to_be_visible()
    expect(page.locator(".line")).to_have_count(1)


def test_hostile_names_are_text(open_page: Callable[..., Page]):
    """Markup, directions of writing and long texts of users stay text, and do not widen the page."""
    page = open_page("/trials?where=tags.kind+%3D+values&columns=parameters.text&columns=parameters.nan")
    name = page.locator(".line .lead a")
    expect(name).to_contain_text('<script>alert("x")</script>')
    expect(page.locator(".line")).to_contain_text("NaN")
    assert page.locator("script:not([src])").count() == 0
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_unknown_place_says_so(open_page: Callable[..., Page]):
    """A path without a view, and unknown projects and groups, are shown as what they are, with a way back."""
    page = open_page("/nowhere")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    for kind in ("project", "group"):
        page = open_page(f"/{kind}s/none")
        expect(page.get_by_role("heading", name=f"There is no such {kind}")).to_be_visible()
        assert findings(page) == []
        page.get_by_role("main").get_by_role("link", name="all trials").click()
        expect(page.get_by_role("heading", name="All trials")).to_be_visible()


def test_requests_that_are_refused(open_page: Callable[..., Page]):
    """After the end of a login, the page leads to the form; where there were too many requests, it tries again."""
    page = open_page("/operations")
    error = {"code": "unauthorized", "message": "expected the token"}
    page.route(re.compile("/api/v1/projects"), lambda route: route.fulfill(status=401, json={"error": error}))
    page.goto("/")
    expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()
    page.unroute(re.compile("/api/v1/projects"))
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name="vision")).to_be_visible()

    page.route(re.compile("/api/v1/projects"), lambda route: route.fulfill(status=429, body="<html>slow down</html>"))
    page.goto("/")
    expect(page.get_by_role("heading", name="Too many requests")).to_be_visible()
    expect(page.get_by_text("tries again by itself")).to_be_visible()
    page.unroute(re.compile("/api/v1/projects"))
    expect(page.get_by_role("link", name="vision")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_projects_have_no_serious_findings(open_page: Callable[..., Page], scheme: str):
    """axe-core finds nothing serious among the projects, with their groups, in light and dark, on a phone."""
    page = open_page("/?open=vision", color_scheme=scheme, viewport={"width": 390, "height": 800})
    expect(page.get_by_role("link", name="search")).to_be_visible()
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_first_page_is_small(open_page: Callable[..., Page]):
    """All of the page is at most 350 KB compressed, and the table needs less than a third of that."""
    static = Path(package.__file__).parent / "static"
    total = sum(len(gzip.compress(each.read_bytes())) for each in static.iterdir())
    assert total < 350_000

    page = open_page("/trials")
    expect(page.locator(".line").first).to_be_visible()
    sizes = page.evaluate("performance.getEntriesByType('resource').map(each => each.encodedBodySize)")
    assert sum(sizes) < 120_000


def test_the_server_goes_away_and_comes_back(browser: Browser, dashboard, served: Config, tmp_path: Path):
    """The page says that its server is away, keeps what it shows, and goes on when the server is back."""
    server = type(dashboard)(tmp_path, served)
    server.start()
    context = browser.new_context(base_url=server.address, locale="en-US")
    try:
        page = context.new_page()
        page.goto("/trials")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        server.kill()
        expect(page.get_by_text("Not connected")).to_be_visible()
        expect(page.get_by_role("alert").filter(has_text="connects again by itself")).to_be_visible()
        expect(page.locator(".line").first).to_be_visible()
        page.get_by_role("link", name="Projects").click()
        expect(page.get_by_role("heading", name="The dashboard's server does not answer")).to_be_visible()
        server.start()
        expect(page.get_by_role("link", name="vision")).to_be_visible(timeout=20_000)
        expect(page.get_by_text("Live", exact=True)).to_be_visible(timeout=20_000)
    finally:
        context.close()
        server.stop()


def test_mongodb_is_away(browser: Browser, dashboard, served: Config, tmp_path: Path):
    """The page says that MongoDB is away, at its top and in its views."""
    server = type(dashboard)(tmp_path, replace(served, mongo="mongodb://127.0.0.1:1"))
    server.start()
    context = browser.new_context(base_url=server.address, locale="en-US")
    try:
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.goto("/trials")
        expect(page.locator(".away")).to_contain_text("MongoDB is away", timeout=30_000)
        expect(page.get_by_role("heading", name=re.compile("MongoDB is away"))).to_be_visible(timeout=30_000)
        assert findings(page) == []
    finally:
        context.close()
        server.stop()


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("path", ["/trials", "/compare"])
def test_the_text_of_an_empty_field_fits_it(open_page: Callable[..., Page], sample: None, path: str, width: int):
    """The example of the filter, and the text of each other field, are as wide as the field at most."""
    page = open_page(path, viewport={"width": width, "height": 800})
    example = "status = Running and metrics.loss.last < 0.1" if width > 640 else "metrics.loss.last < 0.1"
    expect(page.get_by_role("combobox", name="Filter trials")).to_have_attribute("placeholder", f"Filter:  {example}")
    cut_off = page.evaluate(
        """[...document.querySelectorAll("[placeholder]")].filter((field) => {
            const context = document.createElement("canvas").getContext("2d");
            const { font, paddingLeft, paddingRight } = getComputedStyle(field);
            context.font = font;
            const room = field.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
            return field.checkVisibility() && context.measureText(field.placeholder).width > room;
        }).map((field) => field.placeholder)"""
    )
    assert cut_off == []
