"""The table of trials, as a person uses it: scrolling, filtering, sorting, columns, groups, selection, export."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trialstream as ts
from accessibility import findings
from many import COUNT, log_many
from playwright.sync_api import Locator, Page, expect
from trialstream.config import Config
from trialstream.sync import SyncProtocol

COLUMNS = "columns=parameters.index&columns=parameters.optimizer&columns=metrics.loss.last"


@pytest.fixture(scope="module", autouse=True)
def _many(served: Config, protocol: SyncProtocol) -> None:
    log_many(served, protocol)


@pytest.fixture
def table(open_page: Callable[..., Page]) -> Page:
    """The table of the project `many`."""
    page = open_page(f"/projects/many?{COLUMNS}")
    expect(rows(page).first).to_be_visible()
    return page


def rows(page: Page) -> Locator:
    """Return the rows of the table that exist."""
    return page.locator(".datagrid .line")


def row(page: Page, name: str) -> Locator:
    """Return the row of a trial."""
    return rows(page).filter(has=page.get_by_text(name, exact=True))


def query(page: Page) -> dict[str, list[str]]:
    """Return the parameters of the page's address."""
    return parse_qs(urlsplit(page.url).query)


def first_names(page: Page, count: int = 3) -> list[str]:
    """Return the names of the first rows in view, from the top."""
    return page.evaluate(
        """count => [...document.querySelectorAll(".datagrid .line")]
            .sort((a, b) => a.getAttribute("aria-rowindex") - b.getAttribute("aria-rowindex"))
            .slice(0, count).map(each => each.querySelector(".lead").innerText.trim())""",
        count,
    )


def test_row_9000_is_there_after_one_scroll(table: Page):
    """A table of 10,000 trials has a few dozen rows, and shows each where it belongs."""
    expect(table.get_by_role("status").filter(has_text="10 000 trials")).to_be_visible()
    assert first_names(table) == ["run-09999", "run-09998", "run-09997"]
    assert rows(table).count() < 60

    table.locator(".datagrid").evaluate("grid => grid.scrollTop = 9000 * 30")

    expect(row(table, "run-00999")).to_be_visible()
    expect(row(table, "run-00999")).to_have_attribute("aria-rowindex", "9002")
    assert rows(table).count() < 60


def test_scrolling_shows_each_row_in_its_place(table: Page):
    """While the table scrolls, it has the rows in view and few others, in their order, with their own cells."""
    for top in (30, 45, 300, 4500, 4470, 0):
        table.locator(".datagrid").evaluate("(grid, top) => grid.scrollTop = top", top)
        first = top // 30
        expect(row(table, f"run-{9999 - first:05}")).to_be_in_viewport()
        shown = table.evaluate(
            """() => [...document.querySelectorAll(".datagrid .line")].map(line => [
                Number(line.getAttribute("aria-rowindex")) - 2,
                ...[...line.children].map(cell => cell.innerText.trim())
            ])"""
        )
        assert [each[0] for each in shown] == list(range(max(0, first - 6), shown[-1][0] + 1))
        assert len(shown) < 60
        for index, name, _, _, number, *_ in shown:
            assert (name, number.replace("\u202f", "")) == (f"run-{9999 - index:05}", str(9999 - index))


def test_the_filter_completes_and_applies(table: Page):
    """The field offers what can follow, takes it by the keyboard, and the query is in the address."""
    field = table.get_by_role("combobox", name="Filter trials by a query")
    field.press_sequentially("parameters.ind")
    expect(table.get_by_role("option", name=re.compile("parameters.index"))).to_be_visible()
    field.press("ArrowDown")
    field.press("Tab")
    expect(field).to_have_value("parameters.index ")
    field.press_sequentially("< 3")
    field.press("Escape")
    field.press("Enter")

    expect(rows(table)).to_have_count(3)
    assert first_names(table) == ["run-00002", "run-00001", "run-00000"]
    assert query(table)["where"] == ["parameters.index < 3"]
    table.go_back()
    expect(table.get_by_text("10 000 trials")).to_be_visible()
    table.go_forward()
    expect(rows(table)).to_have_count(3)
    expect(field).to_have_value("parameters.index < 3")


def test_typing_goes_on_at_once_after_a_completion(table: Page):
    """The cursor is behind the word before the page is drawn again, so that what is typed meanwhile comes after it."""
    table.evaluate("() => { window.requestAnimationFrame = (draw) => setTimeout(draw, 300); }")
    field = table.get_by_role("combobox", name="Filter trials by a query")
    field.press_sequentially("parameters.ind")
    expect(table.get_by_role("option", name=re.compile("parameters.index"))).to_be_visible()
    field.press("ArrowDown")
    field.press("Tab")
    field.press_sequentially("< 3", delay=150)

    expect(field).to_have_value("parameters.index < 3")


def test_an_error_of_the_filter_is_marked_at_its_place(table: Page):
    """The text of the query is shown with what is wrong underlined; the table stays as it was."""
    field = table.get_by_role("combobox", name="Filter trials by a query")
    field.fill("parameters.index < 3 and status ! Running")
    field.press("Escape")
    field.press("Enter")

    expect(table.locator(".trouble")).to_contain_text("expected a word or an operator, got '!'")
    expect(table.locator(".trouble")).not_to_contain_text("column")
    expect(table.locator(".trouble mark")).to_have_text("!")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert "where" not in query(table)
    assert first_names(table, 1) == ["run-09999"]


def test_a_link_with_a_wrong_query_says_so(open_page: Callable[..., Page]):
    """A wrong query in the address is an error at its place, and can be mended."""
    page = open_page("/trials?where=status+%3D")
    expect(page.locator(".trouble")).to_contain_text("expected")
    page.get_by_role("button", name="Clear the filter").click()
    expect(rows(page).first).to_be_visible()


def test_headings_sort(table: Page):
    """A heading sorts up, then down; with Shift, by a second column within the first."""
    table.get_by_role("button", name="loss").click()
    expect(row(table, "run-00000")).to_be_visible()
    assert first_names(table, 2) == ["run-00000", "run-00001"]
    table.get_by_role("button", name="loss").click()
    expect(row(table, "run-09999")).to_be_visible()
    expect(table.get_by_role("columnheader", name="loss")).to_have_attribute("aria-sort", "descending")
    table.get_by_role("button", name="optimizer").click()
    table.get_by_role("button", name="index").click(modifiers=["Shift"])
    assert query(table)["sort"] == ["parameters.optimizer", "parameters.index"]
    expect(row(table, "run-00000")).to_be_visible()
    assert first_names(table, 2) == ["run-00000", "run-00003"]


def test_groups_have_headings_with_their_counts(table: Page):
    """Trials are grouped by any parameter; a group is closed and opened, by mouse and keyboard."""
    table.get_by_label("Group by").select_option("parameters.optimizer")
    heading = table.get_by_role("button", name=re.compile("optimizer = adam"))
    expect(heading).to_contain_text("3 334 trials")
    heading.click()
    expect(table.get_by_role("button", name=re.compile("optimizer = lamb"))).to_contain_text("3 333 trials")
    table.reload()
    expect(table.get_by_role("button", name=re.compile("optimizer = adam"))).to_have_attribute("aria-expanded", "false")
    table.locator(".datagrid").focus()
    table.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-expanded", "true")


def test_columns_are_chosen_moved_and_resized(table: Page):
    """The dialog finds columns and adds them; keys move and resize them; the address has all of it."""
    table.get_by_role("button", name="Columns").click()
    dialog = table.get_by_role("dialog", name="Columns")
    dialog.get_by_placeholder("Search").fill("loss min")
    dialog.get_by_role("checkbox").first.check()
    dialog.get_by_role("button", name="Remove parameters.optimizer").click()
    table.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert query(table)["columns"] == ["parameters.index", "metrics.loss.last", "metrics.loss.min"]

    table.get_by_role("button", name="index").press("Alt+ArrowRight")
    assert query(table)["columns"][:2] == ["metrics.loss.last", "parameters.index"]
    handle = table.get_by_role("separator", name="Width of index")
    before = int(handle.get_attribute("aria-valuenow"))
    handle.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", str(before + 16))
    assert query(table)["widths"] == [f"parameters.index:{before + 16}"]


def test_rows_are_selected_and_compared(table: Page):
    """Checkboxes, Shift for a range, and keys select; the selection is compared."""
    row(table, "run-09999").get_by_role("checkbox").click()
    row(table, "run-09996").get_by_role("checkbox").click(modifiers=["Shift"])
    bar = table.get_by_role("region", name="Selected trials")
    expect(bar).to_contain_text("4 trials selected")
    table.locator(".datagrid").focus()
    table.keyboard.press("ArrowDown")
    table.keyboard.press("Space")
    expect(bar).to_contain_text("5 trials selected")
    table.keyboard.press("Shift+ArrowDown")
    expect(bar).to_contain_text("6 trials selected")
    table.keyboard.press("Escape")
    expect(bar).to_be_hidden()
    table.keyboard.press("End")
    expect(row(table, "run-00000")).to_be_visible()
    table.keyboard.press("Home")
    for _ in range(2):
        table.keyboard.press("Space")
        table.keyboard.press("ArrowDown")
    table.keyboard.press("c")
    expect(table.get_by_role("heading", name="Compare")).to_be_visible()
    assert len(query(table)["trials"]) == 2
    table.go_back()
    expect(rows(table).first).to_be_visible()


def test_a_row_opens_its_trial(table: Page):
    """The name is a link; Enter opens the row of the keyboard."""
    expect(row(table, "run-09999").get_by_role("link")).to_have_attribute("href", re.compile("^/trials/"))
    table.locator(".datagrid").focus()
    table.keyboard.press("ArrowDown")
    table.keyboard.press("Enter")
    expect(table).to_have_url(re.compile(r"/trials/0{28}270e_0"))


def test_tags_and_notes_are_written(open_page: Callable[..., Page], protocol: SyncProtocol):
    """A selection gets a tag and a note, through the Protocol, and the table shows the tag."""
    for index in range(2):
        protocol.new_trial(ts.Trial(name=f"tagged-{index}"), auto_increment=True)
    protocol.commit("folded")
    page = open_page("/trials?where=name+~+tagged-&columns=tags.kept")
    for index in range(2):
        row(page, f"tagged-{index}").get_by_role("checkbox").click()
    page.get_by_role("button", name="Tag…").click()
    page.get_by_role("dialog").get_by_label("Name").fill("kept")
    page.get_by_role("dialog").get_by_label("Value").fill("12")
    page.get_by_role("button", name="Set the tag").click()
    page.get_by_role("button", name="Note…").click()
    page.get_by_role("dialog").get_by_label("Text").fill("A note <b>of two</b>")
    page.get_by_role("button", name="Add the note").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(row(page, "tagged-0").locator(".number, [role=gridcell]").last).to_have_text("12")

    found = protocol.fetch_trials({"tags.kept": 12}, latest=True)  # also after the note, which another protocol wrote
    assert sorted(each.name for each in found) == ["tagged-0", "tagged-1"]
    for each in found:
        answer = page.request.get(f"/api/v1/trials/{each.uid}").json()
        assert [note["text"] for note in answer["notes"]] == ["A note <b>of two</b>"]


def test_the_table_follows_its_trials(open_page: Callable[..., Page], protocol: SyncProtocol):
    """A trial appears where it matches as soon as it is folded, and its status follows, without a reload."""
    page = open_page("/trials?where=name+~+appearing")
    expect(page.get_by_role("heading", name="No trial matches the filter")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    trial = protocol.new_trial(ts.Trial(name="appearing"), auto_increment=True)
    assert trial is not None
    expect(row(page, "appearing")).to_be_visible(timeout=10_000)
    protocol.log_trial_start(trial)
    expect(row(page, "appearing")).to_contain_text("Running", timeout=10_000)
    protocol.log_trial_finish(trial)
    expect(row(page, "appearing")).to_contain_text("Completed", timeout=10_000)


def test_the_table_is_exported(table: Page, tmp_path: Path):
    """CSV and JSON have all trials that match, with the chosen columns in the order of the table."""
    found = {}
    for kind in ("CSV", "JSON"):
        table.get_by_role("button", name="Export").click()
        with table.expect_download() as download:
            table.get_by_role("menuitem", name=kind).click()
        found[kind] = Path(download.value.path()).read_text()

    lines = list(csv.DictReader(io.StringIO(found["CSV"])))
    assert len(lines) == len(json.loads(found["JSON"])) == COUNT
    assert lines[0]["name"] == "run-09999"
    assert float(lines[0]["metrics.loss.last"]) == 0.9999
    assert json.loads(found["JSON"])[1]["parameters.index"] == 9998


def test_the_table_has_no_serious_findings(table: Page):
    """axe-core finds nothing serious in the table, its dialog of columns, and in the dark."""
    row(table, "run-09999").get_by_role("checkbox").click()
    assert findings(table) == []
    table.emulate_media(color_scheme="dark")
    table.get_by_role("button", name="Columns").click()
    assert findings(table) == []


def test_a_phone_shows_the_table(open_page: Callable[..., Page]):
    """At 390 pixels the page does not scroll sideways; the table does, and its names stay."""
    page = open_page(f"/projects/many?{COLUMNS}", viewport={"width": 390, "height": 800})
    expect(rows(page).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".datagrid").evaluate("grid => grid.scrollLeft = 300")
    expect(page.get_by_role("columnheader", name="loss")).to_be_in_viewport()
    expect(row(page, "run-09999")).to_be_visible()
    assert row(page, "run-09999").locator(".lead").bounding_box()["x"] < 30
