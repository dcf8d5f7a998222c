"""The page of a trial: curves that are exact on zoom and grow live, ranks, chronos, output, events and time travel."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import trialstream as ts
import trialstream.sync
from accessibility import findings
from playwright.sync_api import Locator, Page, Route, expect
from trialstream.config import Config
from trialstream.sync import SyncProtocol

ROWS = 1_000_000
SPIKE = 654_321
TABS = ("curves", "overview", "chronos", "ranks", "output", "log", "travel")


def path_of(trial: ts.Trial, **query: object) -> str:
    """Return the address of a trial's page."""
    words = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
    return f"/trials/{trial.uid}?{words}"


@pytest.fixture(scope="module")
def spike(protocol: SyncProtocol) -> ts.Trial:
    """A trial of a million rows, of which one is a spike."""
    trial = protocol.new_trial(ts.Trial(name="spike"))
    assert trial is not None
    protocol.log_trial_start(trial)
    for step in range(ROWS):
        protocol.log_trial_metrics(trial, step=step, signal=1000.0 if step == SPIKE else float(step % 7))
    protocol.log_trial_finish(trial)
    protocol.commit("folded")
    return trial


@pytest.fixture(scope="module")
def kinds(protocol: SyncProtocol) -> ts.Trial:
    """A trial with a tree of metrics, NaN and infinities, values at and below zero, chronos, and a note."""
    trial = protocol.new_trial(
        ts.Trial(name="kinds <b>", parameters={"lr": 0.1, "net": {"depth": 3}}, tags={"of": "kinds"})
    )
    assert trial is not None
    protocol.log_trial_start(trial)
    for step in range(200):
        values = {"train/loss": 2.0 / (step + 1), "train/accuracy": step / 200, "eval/loss": 3.0 / (step + 1)}
        special = {50: float("nan"), 51: float("nan"), 120: float("inf"), 121: float("-inf")}.get(step, step - 100.0)
        protocol.log_trial_metrics(trial, step=step, wave=special, **values)
        if step % 50 == 0:
            protocol.log_trial_chrono_start(trial, "epoch", aggregator=ts.TimeSeriesAggregator.lazy())
            protocol.log_trial_chrono_finish(trial, "epoch")
    protocol.log_trial_finish(trial)
    protocol.commit("folded")
    return trial


def named(protocol: SyncProtocol, name: str) -> ts.Trial:
    """Return the trial of a name."""
    [found] = protocol.fetch_trials({"name": name})
    return found


def large(page: Page) -> Locator:
    """Return the large chart, once its curves are there."""
    chart = page.locator(".large")
    expect(chart.locator(".notes")).to_contain_text("rows")
    return chart


def drag(page: Page, chart: Locator, start: float, end: float) -> None:
    """Drag the pointer over a chart, between two shares of its width."""
    box = chart.locator(".u-over").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=3)
    page.mouse.up()


def view(page: Page) -> tuple[float, float]:
    """Return the range of x in the address."""
    page.wait_for_url(re.compile(r"[?&]from="))
    query = parse_qs(urlsplit(page.url).query)
    return float(query["from"][0]), float(query["to"][0])


def has_ink(chart: Locator, x: float, y: float) -> bool:
    """Whether a curve is drawn near a place of a plot, in shares of its width and height from the upper left."""
    return chart.locator("canvas").evaluate(
        """(canvas, [x, y]) => {
            const over = canvas.parentElement.querySelector(".u-over");
            const scale = canvas.width / canvas.clientWidth;
            const left = (over.offsetLeft + x * over.clientWidth) * scale;
            const top = (over.offsetTop + y * over.clientHeight) * scale;
            const { data } = canvas.getContext("2d").getImageData(left - 5, top - 5, 11, 11);
            for (let i = 0; i < data.length; i += 4) {
                const colour = data.slice(i, i + 3);
                if (data[i + 3] > 60 && Math.max(...colour) - Math.min(...colour) > 60) return true;
            }
            return false;
        }""",
        [x, y],
    )


def test_an_outline_is_there_before_the_rows(open_page: Callable[..., Page], spike: ts.Trial):
    """Of a long curve that was not read before, the spike and the number of rows are shown at once, then the rows."""
    page = open_page("/projects")
    held: list[Route] = []
    released: list[Route] = []

    def hold(route: Route) -> None:
        if released or route.request.post_data_json.get("outline"):
            route.continue_()
        else:
            held.append(route)

    page.route("**/api/v1/series", hold)
    page.goto(page.url.replace("/projects", path_of(spike, metric="signal")))
    chart = large(page)
    expect(chart.locator(".notes")).to_contain_text("1\u202f000\u202f000 rows, of each pixel")
    page.wait_for_timeout(100)  # one frame of the screen, on a busy machine
    assert has_ink(chart, SPIKE / (ROWS - 1), 0.1)
    expect(chart.locator(".curves")).to_have_attribute("aria-busy", "true")
    released += held
    for each in released:
        each.continue_()
    expect(chart.locator(".curves")).to_have_attribute("aria-busy", "false")
    expect(chart.locator(".notes")).to_contain_text("1\u202f000\u202f000 rows, of each pixel")
    assert has_ink(chart, SPIKE / (ROWS - 1), 0.1)


def test_a_spike_of_one_row_in_a_million_is_visible_at_every_zoom(open_page: Callable[..., Page], spike: ts.Trial):
    """It is drawn at each zoom, and all rows are there once few are in view."""
    page = open_page(path_of(spike, metric="signal"))
    chart = large(page)
    expect(chart.locator(".notes")).to_contain_text("1\u202f000\u202f000 rows, of each pixel")
    low, high = 0.0, float(ROWS - 1)
    for _ in range(4):
        expect(chart.locator(".curves")).to_have_attribute("aria-busy", "false")
        place = (SPIKE - low) / (high - low)
        page.wait_for_timeout(100)  # one frame of the screen, on a busy machine
        assert has_ink(chart, place, 0.1)
        drag(page, chart, place - 0.09, place + 0.11)
        before = (low, high)
        page.wait_for_function("before => !location.search.includes(`from=${before}`)", arg=str(low))
        page.wait_for_timeout(400)  # the address follows a zoom after 300 ms
        low, high = view(page)
        assert before[0] <= low < SPIKE < high <= before[1]
    expect(chart.locator(".notes")).not_to_contain_text("of each pixel")
    assert has_ink(chart, (SPIKE - low) / (high - low), 0.1)
    chart.locator(".u-over").dblclick()
    expect(chart.locator(".notes")).to_contain_text("1\u202f000\u202f000 rows")


def test_values_without_a_place_are_marked_and_counted(open_page: Callable[..., Page], kinds: ts.Trial):
    """NaN and infinities are counted below the chart and on its card; a logarithmic axis counts what it lacks."""
    page = open_page(path_of(kinds, metric="wave"))
    chart = large(page)
    expect(chart.locator(".notes")).to_contain_text("2 NaN · 1 +inf · 1 \u2212inf")
    expect(page.get_by_role("article", name="wave").locator(".badge")).to_have_text("4 NaN, inf")
    page.get_by_role("button", name="log y").click()
    expect(chart.locator(".notes")).to_contain_text("at or below 0")
    assert "ylog=1" in page.url
    row = chart.get_by_role("row", name=re.compile("^wave"))
    expect(row.get_by_role("cell").nth(5)).to_have_text("2")


def test_a_chart_without_finite_values_has_no_numbers_on_its_axis(
    open_page: Callable[..., Page], protocol: SyncProtocol
):
    """It has the marks, and says how many values of each kind there are; so do a log axis and the part in view."""
    trial = protocol.new_trial(ts.Trial(name="without numbers"))
    assert trial is not None
    for step in range(40):
        special = (float("nan"), float("inf"))[step % 2]
        protocol.log_trial_metrics(trial, step=step, none=special, half=5.0 if step < 20 else special, below=-1.0)
    protocol.commit("folded")
    page = open_page("/")
    # The axes are painted on a canvas: the texts that the page paints there are what can be asked for.
    page.add_init_script(
        """window.painted = new Set();
        const paint = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
            window.painted.add(text);
            return paint.call(this, text, ...more);
        };"""
    )
    cases = {
        "metric=none": "No finite value · 20 NaN · 20 +inf",
        "metric=half&from=25&to=35": "No finite value in view",
        "metric=below&ylog=1": "No value above 0, as log y needs",
    }
    for query, text in cases.items():
        page.goto(f"/trials/{trial.uid}?find=nothing&{query}")
        chart = large(page)
        expect(chart.locator(".veil")).to_have_text(text)
        page.wait_for_function("() => window.painted.has('30')")  # of x
        assert page.evaluate("[...window.painted].filter((each) => Number(each) < 5 && each !== '0')") == []
        if "below" not in query:
            assert any(has_ink(chart, x / 100, 0.97) for x in range(10, 91))


def test_metrics_are_a_tree_that_can_be_searched(open_page: Callable[..., Page], kinds: ts.Trial):
    """Folders choose their metrics, words of a search all others; charts are loaded in view only."""
    page = open_page(path_of(kinds))
    expect(page.get_by_role("article")).to_have_count(4)
    page.get_by_role("button", name="train/ 2").click()
    expect(page.get_by_role("article")).to_have_count(2)
    page.get_by_role("searchbox", name="Search metrics").fill("LOSS")
    expect(page.get_by_role("article")).to_have_count(1)
    expect(page).to_have_url(re.compile("find=LOSS"))
    page.get_by_role("searchbox", name="Search metrics").fill("nothing")
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_role("article")).to_have_count(4)


def test_smoothing_keeps_the_raw_line(open_page: Callable[..., Page], kinds: ts.Trial):
    """The slider moves by keys, is in the address, and the readout has both values."""
    page = open_page(path_of(kinds, metric="train/loss"))
    chart = large(page)
    slider = page.get_by_role("slider", name="smoothing")
    slider.focus()
    for _ in range(9):
        slider.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"smooth=\d"))
    chart.locator(".u-over").hover(position={"x": 60, "y": 100})
    expect(chart.locator(".readout td.number")).to_have_count(2)


def test_everything_of_a_chart_can_be_done_by_keys(open_page: Callable[..., Page], kinds: ts.Trial):
    """Zoom, pan, crosshair with its values read out, legend, whole."""
    page = open_page(path_of(kinds, metric="train/loss") + "&metric=eval/loss")
    chart = large(page)
    plot = chart.locator(".plot")
    plot.focus()
    page.keyboard.press("+")
    low, _ = view(page)
    page.keyboard.press("ArrowRight")
    page.wait_for_function("low => Number(new URLSearchParams(location.search).get('from')) > low", arg=low)
    page.keyboard.press("Shift+ArrowRight")
    expect(chart.locator("[aria-live]")).to_contain_text("eval/loss: ")
    page.keyboard.press("0")
    page.wait_for_function("() => !location.search.includes('from=')")
    legend = chart.get_by_role("list", name="Curves").get_by_role("button")
    legend.first.focus()
    page.keyboard.press("Enter")
    expect(legend.first).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Shift+Enter")
    expect(legend.last).to_have_attribute("aria-pressed", "false")


def test_a_chart_is_exported(open_page: Callable[..., Page], kinds: ts.Trial):
    """CSV, JSON, PNG and SVG have what the chart shows."""
    page = open_page(path_of(kinds, metric="wave"))
    chart = large(page)
    contents: dict[str, bytes] = {}
    for name in ("CSV", "JSON", "PNG", "SVG"):
        chart.get_by_role("button", name="Export").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=name).click()
        contents[name] = download.value.path().read_bytes()
    assert contents["CSV"].splitlines()[1] == b"wave,0,-100,true"
    assert b"wave,50,NaN,true" in contents["CSV"]
    assert b'"value": "+inf"' in contents["JSON"]
    assert contents["PNG"].startswith(b"\x89PNG")
    assert contents["SVG"].startswith(b"<svg ")
    assert b"<path" in contents["SVG"]


def test_rows_appear_as_they_are_logged(open_page: Callable[..., Page], protocol: SyncProtocol):
    """An open page grows by the rows that are logged; it does not ask for whole curves again."""
    trial = protocol.new_trial(ts.Trial(name="live rows"))
    assert trial is not None
    protocol.log_trial_start(trial)
    for step in range(10):
        protocol.log_trial_metrics(trial, step=step, loss=1.0)
    protocol.commit("folded")
    page = open_page(path_of(trial, metric="loss"))
    chart = large(page)
    expect(chart.locator(".notes")).to_have_text("10 rows")
    expect(page.locator(".connection")).to_have_text(re.compile("Live"))
    page.wait_for_timeout(500)  # the stream of rows is opened once the trial is known
    asked: list[str] = []
    page.on("request", lambda request: request.url.endswith("/series") and asked.append(request.post_data or ""))
    for step in range(10, 500):
        protocol.log_trial_metrics(trial, step=step, loss=float(step))
    expect(chart.locator(".notes")).to_have_text("500 rows")
    expect(chart.get_by_role("row", name=re.compile("^loss")).get_by_role("cell").nth(2)).to_have_text("499")
    assert [each for each in asked if '"since"' not in each] == []
    protocol.log_trial_finish(trial)
    expect(page.locator(".trial-head .status")).to_contain_text("Completed")


def test_ranks_have_states_curves_and_stragglers(open_page: Callable[..., Page], sample: None, protocol: SyncProtocol):
    """Each rank has its state; its curves are lines or a band; the slowest is first among the stragglers."""
    page = open_page(path_of(named(protocol, "data parallel"), tab="ranks"))
    states = page.get_by_role("region", name="States")
    expect(states.locator("tbody tr")).to_have_count(4)
    states.get_by_label("earlier attempts too").check()
    expect(states.locator("tbody tr")).to_have_count(8)
    expect(states).to_contain_text("device-side assert")
    curves = page.get_by_role("region", name="Curves of the ranks")
    expect(curves.locator(".legend li")).to_have_count(4)
    curves.get_by_role("button", name="band").click()
    expect(curves.locator(".legend li")).to_have_count(1)
    expect(page.get_by_role("region", name="Stragglers").locator("tbody tr")).to_have_count(4)


def test_chronos_are_bars_and_a_timeline(open_page: Callable[..., Page], kinds: ts.Trial):
    """Each name has its sums, its curve and a lane."""
    page = open_page(path_of(kinds, tab="chronos"))
    page.get_by_role("button", name="epoch").click()
    expect(page.get_by_role("region", name="epoch").locator(".notes")).to_contain_text("4 rows")
    expect(page.get_by_role("region", name="Timeline").locator("rect.span")).to_have_count(4)


def test_the_share_of_a_chrono_is_that_of_the_time_of_all_ranks(open_page: Callable[..., Page], served: Config):
    """Ranks that spend all of their time in one chrono have nearly 100 % together, and not 100 % each."""
    ranks, trial = 4, None
    with ExitStack() as opened:
        protocols = [
            opened.enter_context(trialstream.sync.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix))
            for _ in range(ranks)
        ]
        trial = protocols[0].new_trial(ts.Trial(name="ranks all the time"))
        assert trial is not None
        for rank, each in enumerate(protocols):
            each.log_trial_start(trial, attempt=ts.Attempt("job", rank=rank, world_size=ranks))
            each.log_trial_chrono_start(trial, "work")
        threading.Event().wait(0.5)  # the time that is measured
        for each in protocols:
            each.log_trial_chrono_finish(trial, "work")
            each.log_trial_finish(trial)
            each.commit("folded")
    page = open_page(path_of(trial, tab="chronos"))
    times = page.get_by_role("region", name="Times by name")
    share = times.get_by_role("row", name=re.compile("^work")).get_by_role("cell").nth(1)
    expect(share).to_have_text(re.compile(r"^([5-9]\d(\.\d)?|100) %$"))
    expect(share).to_have_attribute("title", re.compile(r" s of \d.* s$"))
    expect(times).to_contain_text("share of the time of 4 processes together")
    expect(times.get_by_role("row", name=re.compile("^runtime")).get_by_role("cell").nth(1)).to_have_text("\u2013")


def test_a_chrono_that_ends_after_its_trial_counts(open_page: Callable[..., Page], protocol: SyncProtocol):
    """Its only time is counted and summed, though the statistics leave the first one out."""
    trial = protocol.new_trial(ts.Trial(name="outlived"))
    assert trial is not None
    protocol.log_trial_start(trial)
    protocol.log_trial_chrono_start(trial, "saving")
    protocol.log_trial_finish(trial)
    protocol.log_trial_chrono_finish(trial, "saving")
    protocol.commit("folded")
    page = open_page(path_of(trial, tab="chronos"))
    times = page.get_by_role("region", name="Times by name")
    row = times.get_by_role("row", name=re.compile("saving"))
    expect(row.get_by_role("cell").nth(2)).to_have_text("1")
    expect(row.get_by_role("cell").nth(0)).to_have_text(re.compile(r"[1-9].* (µs|ms|s)"))
    expect(times).to_contain_text("leave out the first time")


def test_charts_of_extreme_numbers_are_drawn(open_page: Callable[..., Page], protocol: SyncProtocol):
    """Values at the ends of the doubles, and of which no tick lies between two, are drawn on both scales."""
    trial = protocol.new_trial(ts.Trial(name="extremes"))
    assert trial is not None
    for step in range(20):
        odd = step % 2
        protocol.log_trial_metrics(
            trial,
            step=step,
            neighbours=1e16 + 2 * odd,
            largest=1.7e308 * (1 if odd else -1),
            constant=1.7976931348623157e308,
            least=5e-324 * (1 + odd),
        )
    protocol.commit("folded")
    for scale in ("0", "1"):
        page = open_page(path_of(trial, ylog=scale))
        for name in ("neighbours", "largest", "constant", "least"):
            chart = page.get_by_role("article", name=name)
            expect(chart.locator(".curves")).to_have_attribute("aria-busy", "false")
            page.wait_for_timeout(100)  # one frame of the screen, on a busy machine
            if (name, scale) != ("largest", "1"):  # whose neighbours at or below 0 have no place
                assert any(has_ink(chart, x / 20, y / 20) for x in (5, 10, 15) for y in range(21)), (name, scale)


def test_the_output_of_ranks_is_found(open_page: Callable[..., Page], protocol: SyncProtocol):
    """The first rank's output is shown without a choice; another rank's streams are its own."""
    trial = protocol.new_trial(ts.Trial(name="printing ranks"))
    assert trial is not None
    for key, text in {
        "rank0/output/stdout": "from 0",
        "rank0/output/stderr": "fault 0",
        "rank3/output/stderr": "from 3",
    }.items():
        protocol.log_trial_metadata(trial, {key: text}, aggregator=ts.RingAggregator.lazy(5))
    protocol.commit("folded")
    page = open_page(path_of(trial, tab="output"))
    expect(page.locator("pre.output")).to_have_text("from 0")
    expect(page.get_by_role("button", name="stdout")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Rank").select_option("3")
    expect(page.locator("pre.output")).to_have_text("from 3")
    expect(page.get_by_role("button", name="stderr")).to_have_attribute("aria-pressed", "true")


def test_output_is_searched(open_page: Callable[..., Page], sample: None, protocol: SyncProtocol):
    """The captured lines are there, and a search leaves those with its words."""
    page = open_page(path_of(named(protocol, "with output"), tab="output"))
    expect(page.locator("pre.output")).to_contain_text("epoch 49: loss 0.020")
    page.get_by_role("searchbox", name="Search the lines").fill("epoch 4:")
    expect(page.locator("pre.output")).to_have_text("epoch 4: loss 0.200\n")


def test_events_of_the_log(open_page: Callable[..., Page], kinds: ts.Trial):
    """Raw events are listed by page, chosen by kind, and opened to their fields."""
    page = open_page(path_of(kinds, tab="log", order="oldest"))
    rows = page.locator("table.events > tbody > tr")
    expect(rows.first).to_contain_text("Created")
    rows.first.get_by_role("button").click()
    expect(page.locator("tr.opened")).to_contain_text("kinds <b>")
    kind = page.get_by_role("group", name="Kinds of events").get_by_role("button").first
    name = kind.inner_text()
    kind.click()
    expect(page).to_have_url(re.compile(f"kinds={name}"))
    expect(rows.filter(has_text=name).first).to_be_visible()
    expect(rows.filter(has_not_text=name)).to_have_count(0)


def test_all_kinds_of_events_can_be_chosen(open_page: Callable[..., Page], protocol: SyncProtocol):
    """The kinds are those of all events of the trial, and not of the page that is loaded."""
    trial = protocol.new_trial(ts.Trial(name="many events"))
    assert trial is not None
    for i in range(120):
        protocol.add_trial_tags(trial, tag=i)
    protocol.commit("folded")
    page = open_page(path_of(trial, tab="log"))
    kinds = page.get_by_role("group", name="Kinds of events").get_by_role("button")
    expect(page.locator("table.events > tbody > tr")).to_have_count(100)
    expect(kinds).to_have_text(["TagsAdded", "TrialCreated"])
    kinds.last.click()
    expect(page.locator("table.events > tbody > tr")).to_have_count(1)
    expect(kinds).to_have_text(["TagsAdded", "TrialCreated"])


def test_time_travel(open_page: Callable[..., Page], kinds: ts.Trial):
    """At the first event the trial has no rows; played to the end it has all: 200 of metrics and 4 of chronos."""
    page = open_page(path_of(kinds, tab="travel"))
    expect(page.locator(".then")).to_contain_text("204 of 204 rows")
    slider = page.get_by_role("slider", name="Time")
    slider.focus()
    slider.press("Home")
    expect(page.locator(".then")).to_contain_text("0 of 204 rows")
    expect(page).to_have_url(re.compile(r"at=\d+"))
    page.get_by_role("combobox", name="Speed").select_option("1")
    page.get_by_role("button", name="Play").click()
    expect(page.locator(".then")).to_contain_text("204 of 204 rows")
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_overview_and_difference(open_page: Callable[..., Page], kinds: ts.Trial, spike: ts.Trial):
    """Parameters are listed, and the difference from a trial that is found by its name has what differs."""
    page = open_page(path_of(kinds, tab="overview"))
    expect(page.locator(".card", has=page.get_by_role("heading", name="Parameters"))).to_contain_text("lr")
    against = page.get_by_role("region", name="Difference from another trial")
    against.get_by_role("searchbox").fill("spike")
    against.get_by_role("button", name="spike").click()
    expect(against.get_by_role("row", name=re.compile("parameters.lr"))).to_be_visible()
    assert spike.uid in page.url


def test_a_failed_trial_shows_its_traceback(open_page: Callable[..., Page], sample: None, protocol: SyncProtocol):
    """The error is in the head of each tab, and opens to the traceback; the head leads to the project by its name."""
    page = open_page(path_of(named(protocol, "failed"), tab="overview"))
    expect(page.get_by_role("link", name="vision")).to_be_visible()
    errors = page.get_by_role("region", name="Errors")
    errors.get_by_text("ValueError").first.click()
    expect(errors.locator("pre").first).to_contain_text("Traceback")


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_fits_a_phone_in_the_dark(open_page: Callable[..., Page], kinds: ts.Trial, tab: str):
    """No tab is wider than 390 pixels, its name is in view among the tabs, and its text is light on dark."""
    page = open_page(path_of(kinds, tab=tab), viewport={"width": 390, "height": 844}, color_scheme="dark")
    expect(page.get_by_role("heading", level=1)).to_have_text("kinds <b>")
    page.wait_for_load_state("networkidle") if tab != "curves" else expect(page.locator("canvas").first).to_be_visible()
    expect(page.get_by_label("Parts of the trial").locator("[aria-current]")).to_be_in_viewport(ratio=0.9)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"


def test_a_trial_that_is_not_there(open_page: Callable[..., Page]):
    """The page says so, and leads to those that are."""
    page = open_page("/trials/0123456789abcdef0123456789abcdef")
    expect(page.get_by_role("main").get_by_role("alert")).to_contain_text("Not found")
    page.get_by_role("main").get_by_role("link", name="all trials").click()
    expect(page.get_by_role("heading", name="All trials")).to_be_visible()


def test_a_trial_that_is_not_folded_yet(open_page: Callable[..., Page]):
    """The page of an address whose revision is not decided says so, and looks again by itself."""
    page = open_page("/trials/0123456789abcdef0123456789abcdef~0123456789abcdef")
    expect(page.get_by_role("heading", name="Not in the database yet")).to_be_visible()
    page.evaluate("window.before = true")
    page.wait_for_function("() => window.before === undefined")
    expect(page.get_by_role("heading", name="Not in the database yet")).to_be_visible()


@pytest.mark.parametrize(
    ("tab", "endpoint", "text"),
    [("log", "events", "Kafka is away"), ("travel", "times", "Kafka is away"), ("output", "output", "MongoDB is away")],
)
def test_a_tab_whose_server_is_away_says_so_and_recovers(
    open_page: Callable[..., Page], kinds: ts.Trial, tab: str, endpoint: str, text: str
):
    """The rest of the page stays, and the content is there once the server is."""
    code = "kafka_away" if "Kafka" in text else "mongo_away"
    answer = {"status": 503, "json": {"error": {"code": code, "message": "no broker answered"}}}
    page = open_page("/")
    page.route(re.compile(f"/{endpoint}"), lambda route: route.fulfill(**answer))
    page.goto(path_of(kinds, tab=tab))
    alert = page.get_by_role("main").get_by_role("alert")
    expect(alert).to_contain_text(text)
    expect(page.get_by_role("heading", level=1)).to_have_text("kinds <b>")
    page.unroute(re.compile(f"/{endpoint}"))
    page.get_by_role("button", name="Try again").click()
    expect(alert).to_have_count(0)


def test_tabs_are_accessible(open_page: Callable[..., Page], kinds: ts.Trial):
    """The checks of axe-core find nothing serious in any tab."""
    page = open_page(path_of(kinds, metric="wave"))
    large(page)
    for place, tab in enumerate(TABS):
        page.get_by_role("navigation", name="Parts of the trial").get_by_role("link").nth(place).click()
        expect(page.locator(".spinner")).to_have_count(0)
        assert findings(page) == [], tab
