"""Histories in memory: requests that read hold up no others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from trialstream.protocol import MetricHistory
from trialstream_console.dashboard.histories import CurveKey, Histories

ROWS = MetricHistory(
    np.arange(3), np.zeros(3, "datetime64[us]"), np.full(3, "w", object), np.arange(3, dtype=float), np.arange(3)
)


class Trials:
    """A protocol with trials of three rows; reads of the slow one wait."""

    def __init__(self):
        self.reads = []
        self.has_begun, self.go_on = threading.Event(), threading.Event()

    def fetch_trials(self, query, **_):
        """Return trials."""
        created = datetime(2026, 1, 1, tzinfo=UTC)
        return [
            SimpleNamespace(uid=uid, created=created, started=None, rows=3, attempts=[]) for uid in query["uid"]["$in"]
        ]

    def fetch_histories(self, trials, *_, **__):
        """Return histories, later those of the slow trial."""
        uids = [each.uid for each in trials]
        self.reads.append(uids)
        if "slow" in uids:
            self.has_begun.set()
            assert self.go_on.wait(60)
        return {uid: {"loss": ROWS} for uid in uids}


@pytest.mark.parametrize("is_known", [True, False], ids=["in memory", "to be read"])
def test_a_long_read_holds_up_no_other_trial(is_known):
    """Other trials are read meanwhile, and what is in memory is returned, also of a trial that is being read."""
    protocol, histories = Trials(), Histories(2**20)
    key, others = CurveKey("slow", "metrics", "loss"), [CurveKey(f"t{i}", "metrics", "loss") for i in range(300)]
    histories.read(protocol, others if is_known else others[:1])
    with ThreadPoolExecutor(4) as pool:
        slow = pool.submit(histories.read, protocol, [key, others[0]])
        assert protocol.has_begun.wait(60)
        found = [
            pool.submit(histories.read, protocol, [each]) for each in (*others[1:], *(others[:1] if is_known else ()))
        ]
        wait(found, timeout=60)
        assert all(each.done() for each in found)
        protocol.go_on.set()
        assert len(slow.result().curves[key][""]) == 3
    assert not histories._reading


def test_one_trial_is_read_once():
    """A request for what another one reads waits for it, and reads nothing again."""
    protocol, histories = Trials(), Histories(2**20)
    key = CurveKey("slow", "metrics", "loss")
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(histories.read, protocol, [key])]
        assert protocol.has_begun.wait(60)
        both.append(pool.submit(histories.read, protocol, [key]))
        protocol.go_on.set()
        assert [len(each.result().curves[key][""]) for each in both] == [3, 3]

    assert protocol.reads == [["slow"]]
