"""The signals with which child processes of the tests begin."""

from __future__ import annotations

import signal
import subprocess
import sys

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT)
SHOW = f"import signal; print(*(signal.getsignal(each) is signal.SIG_IGN for each in {[*map(int, SIGNALS)]}))"


def test_children_begin_with_default_signals():
    """No signal is ignored in a child process of a test."""
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)

    assert shown.stdout.split() == ["False"] * len(SIGNALS)


def test_children_of_a_suite_that_ignores_signals():
    """Children begin with default signals even if the suite was started with ignored ones, as by `nohup`."""

    def ignore():
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)

    this = f"{__file__}::{test_children_begin_with_default_signals.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", this]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=ignore)

    assert ran.returncode == 0, ran.stdout
