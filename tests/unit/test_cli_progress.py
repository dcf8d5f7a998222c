"""The progress bar of the commands."""

from __future__ import annotations

import io
from functools import partial

import pytest
from rich.console import Console
from trialstream_console.cli import progress


@pytest.fixture
def screen(monkeypatch):
    """The output of the bar on a terminal."""
    made = io.StringIO()
    console = partial(Console, file=made, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "new_console", lambda **_: console())
    return made


def test_the_bar_shows_step_count_rate_and_time_left(screen):
    """The bar shows step, count, rate and time left; the initial count of a resumed step is not part of its rate."""
    with progress.progress_bar() as report:
        report("folding", 100_000, 200_000)
        for done in range(101_000, 200_001, 1000):
            report("folding", done, 200_000)
    shown = screen.getvalue()

    assert "folding" in shown
    assert "200000/200000" in shown
    assert "/s" in shown
    assert "0:00:00" in shown


def test_the_total_may_grow(screen):
    """The total may grow during a step, since a log may be appended to while it is read."""
    with progress.progress_bar() as report:
        report("folding", 0, 10)
        report("folding", 10, 10)
        report("folding", 500, 1000)

    assert "500/1000" in screen.getvalue()


def test_the_bar_is_not_shown_without_a_terminal(capsys):
    """Without a terminal there is no bar, so that the logs of batch jobs stay readable."""
    with progress.progress_bar() as report:
        report("folding", 1, 2)
        report("folding", 2, 2)

    assert capsys.readouterr() == ("", "")
