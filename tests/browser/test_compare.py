"""Comparisons of trials, as a person uses them."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
import trialstream as ts
from accessibility import findings
from playwright.sync_api import Page, expect
from trialstream.sync import SyncProtocol

SEEDS = 4
SEARCH = "project=seeds"


@pytest.fixture(scope="module", autouse=True)
def _search(protocol: SyncProtocol) -> None:
    """Two groups of seeds, whose losses differ by the learning rate."""
    protocol.new_project(ts.Project(name="seeds"))
    for lr in (0.1, 0.01):
        group = ts.TrialGroup(name=f"lr {lr}", project_id="seeds")
        protocol.new_trial_group(group)
        for seed in range(SEEDS):
            trial = protocol.new_trial(
                ts.Trial(
                    name=f"lr {lr} seed {seed}",
                    project_id="seeds",
                    group_id=group.uid,
                    parameters={"lr": lr, "seed": seed, "optimizer": "adam" if seed % 2 else "sgd", "same": 7},
                )
            )
            assert trial is not None
            protocol.log_trial_start(trial)
            for step in range(50):
                protocol.log_trial_metrics(trial, step=step, loss=lr * (1 + 0.1 * seed) + 1 / (step + 1), accuracy=step)
            protocol.log_trial_finish(trial)
    protocol.commit("folded")


def query(page: Page) -> dict[str, list[str]]:
    """Return the parameters of the page's address."""
    return parse_qs(urlsplit(page.url).query)


def test_curves_of_all_trials_lie_over_each_other(open_page: Callable[..., Page]):
    """Each trial has its line, which the legend names; further metrics get a chart of their own."""
    page = open_page(f"/compare?{SEARCH}")
    expect(page.get_by_role("region", name="loss").locator("canvas").first).to_be_visible()
    for seed in range(SEEDS):
        expect(page.get_by_role("region", name="loss")).to_contain_text(f"lr 0.1 seed {seed}")
    page.get_by_role("button", name="accuracy").click()
    expect(page.get_by_role("region", name="accuracy").locator("canvas").first).to_be_visible()
    assert query(page)["metric"] == ["loss", "accuracy"]


def test_bands_are_means_over_groups_and_parameters(open_page: Callable[..., Page]):
    """There is one band for each group, or for each value of a parameter, with the number of its trials."""
    page = open_page(f"/compare?{SEARCH}&view=bands")
    expect(page.get_by_role("region", name="loss")).to_contain_text("lr 0.1 (4 trials)")
    page.get_by_label("one band for each").select_option("parameters.optimizer")
    expect(page.get_by_role("region", name="loss")).to_contain_text("adam (4 trials)")
    page.get_by_label("spread").select_option("quantiles")
    expect(page.get_by_role("region", name="loss")).to_contain_text("sgd (4 trials)")
    page.reload()
    expect(page.get_by_role("region", name="loss")).to_contain_text("sgd (4 trials)")


def test_an_axis_is_brushed(open_page: Callable[..., Page]):
    """A range of an axis keeps the trials within it, in the address too; they can be laid over each other."""
    page = open_page(f"/compare?{SEARCH}&view=parallel")
    card = page.get_by_role("region", name="Parallel coordinates")
    expect(card.locator(".lines path")).to_have_count(2 * SEEDS)
    axes = [each.text_content() for each in card.locator(".axis .name").all()]
    box = card.locator(".handle").nth(axes.index("lr")).bounding_box()
    page.mouse.move(box["x"] + 16, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 16, box["y"] + 60, steps=4)
    page.mouse.up()
    expect(card).to_contain_text("4 of 8 trials within the marked ranges")
    assert query(page)["brush"][0].startswith("parameters.lr:")
    page.get_by_role("link", name="Overlay these").click()
    expect(page.get_by_text("4 chosen trials")).to_be_visible()


def test_points_are_coloured_by_a_third_value(open_page: Callable[..., Page]):
    """A scatter plot has a point for each trial, and a legend of its colours; a point opens its trial."""
    page = open_page(f"/compare?{SEARCH}&view=scatter&px=parameters.seed&colour=parameters.optimizer")
    card = page.get_by_role("region", name="Scatter plot")
    expect(card.locator(".point")).to_have_count(2 * SEEDS)
    expect(card.locator(".colour-legend")).to_contain_text("adam")
    card.locator(".point").first.hover()
    expect(card.locator(".hover")).to_contain_text("seed")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
        page.get_by_role("menuitem", name="SVG").click()
    assert download.value.suggested_filename == "comparison.svg"
    card.locator(".point").first.click()
    expect(page).to_have_url(re.compile("/trials/"))


def test_importance_leads_to_the_scatter_plot(open_page: Callable[..., Page]):
    """The parameter that decides the loss is first; its name leads to its scatter plot."""
    page = open_page(f"/compare?{SEARCH}&view=importance&target=metrics.loss.last")
    names = page.locator(".bars tbody th")
    expect(names.first).to_have_text("lr", timeout=30_000)  # the server imports scikit-learn
    names.first.get_by_role("link").click()
    expect(page.get_by_role("region", name="Scatter plot")).to_be_visible()
    assert query(page)["px"] == ["parameters.lr"]


def test_differences_leave_out_what_is_equal(open_page: Callable[..., Page]):
    """The table has a column for each trial, and the rows in which they differ; the equal ones on demand."""
    page = open_page(f"/compare?{SEARCH}&view=table")
    table = page.get_by_role("region", name="Table of differences")
    expect(table.locator("thead th")).to_have_count(2 * SEEDS)
    expect(table.get_by_role("rowheader", name="lr parameter")).to_be_visible()
    expect(table.get_by_role("rowheader", name="same parameter")).to_be_hidden()
    page.get_by_role("checkbox").check()
    expect(table.get_by_role("rowheader", name="same parameter")).to_be_visible()


@pytest.mark.parametrize("view", ["overlay", "bands", "parallel", "scatter", "importance", "table"])
def test_comparisons_have_no_serious_findings(open_page: Callable[..., Page], view: str):
    """axe-core finds nothing serious, in light on a desktop and in the dark on a phone, which the page fits."""
    page = open_page(f"/compare?{SEARCH}&view={view}")
    expect(page.locator(".card, .differences").first).to_be_visible(timeout=30_000)
    assert findings(page) == []
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert findings(page) == []


def test_nothing_to_compare(open_page: Callable[..., Page]):
    """Without a match, each comparison says so."""
    page = open_page("/compare?where=name+%3D+nothing&view=table")
    for key in "123456":
        page.keyboard.press(key)
        expect(page.get_by_role("heading", name="No trials")).to_be_visible()
