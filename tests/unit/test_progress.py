"""The bar of commands that count."""

from __future__ import annotations

import io
from functools import partial

import pytest
from rich.console import Console
from trialstream_console.cli import progress


@pytest.fixture
def screen(monkeypatch):
    """Where the bar is drawn, as if it were a terminal."""
    made = io.StringIO()
    console = partial(Console, file=made, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda **_: console())
    return made


def test_it_shows_step_count_rate_and_time_left(screen):
    """What was done before the step went on is not in its rate."""
    with progress.counting() as told:
        told("folding", 100_000, 200_000)
        for done in range(101_000, 200_001, 1000):
            told("folding", done, 200_000)
    shown = screen.getvalue()

    assert "folding" in shown
    assert "200000/200000" in shown
    assert "/s" in shown
    assert "0:00:00" in shown


def test_the_total_may_grow(screen):
    """A log is written while it is read."""
    with progress.counting() as told:
        told("folding", 0, 10)
        told("folding", 10, 10)
        told("folding", 500, 1000)

    assert "500/1000" in screen.getvalue()


def test_it_shows_nothing_where_there_is_no_terminal(capsys):
    """Logs of batch jobs stay readable."""
    with progress.counting() as told:
        told("folding", 1, 2)
        told("folding", 2, 2)

    assert capsys.readouterr() == ("", "")
