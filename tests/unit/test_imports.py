"""Imports: `import trialstream` is light, and an open protocol imports nothing more."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import trialstream as ts

# The packages that trialstream depends on, and the parts of the standard library that take longest to import.
HEAVY = {
    *("aiokafka", "anyio", "bson", "cramjam", "fastavro", "google_crc32c", "motor", "numpy", "pymongo", "rich"),
    *("structlog", "typer", "asyncio", "ssl"),
}

LIGHT = """
import sys
import trialstream as ts, trialstream.sync

config = ts.Config()
trial = ts.Trial(name="t", parameters={"lr": 0.1, "layers": [1, {"x": 2.5}]})
assert trial.uid and isinstance(ts.Status.Running, ts.Status) and ts.StatAggregator.lazy(1)
assert issubclass(ts.Protocol, object) and ts.MetricHistory and ts.path("parameters", "a.b")
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""

# Every call that an offline protocol takes. The modules that are imported after `open` are printed.
OFFLINE = """
import sys
import trialstream as ts, trialstream.sync

protocol = trialstream.sync.connect(offline=True, spool_dir=sys.argv[1])
protocol.open()
loaded = set(sys.modules)
project = protocol.new_project(ts.Project(name="p"))
group = protocol.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid))
trial = ts.Trial(name="t", parameters={"lr": 0.1}, project_id=project.uid, group_id=group.uid)
trial = protocol.new_trial(trial, auto_increment=True)
protocol.add_project_trial(project, trial)
protocol.add_group_trial(group, trial)
protocol.set_group_metadata(group, {"a.b": [1, None, b"x"]})
protocol.log_trial_start(trial)
protocol.log_trial_arguments(trial, epochs=3, optimizer={"name": "adam"})
protocol.log_trial_metadata(trial, best=0.5, tried=2)
protocol.log_trial_metadata(trial, {"note": "x"}, aggregator=ts.RingAggregator.lazy(3))
protocol.add_trial_tags(trial, kind="test")
for step in range(1000):
    protocol.log_trial_metrics(trial, step=step, loss=0.5, accuracy=1)
protocol.log_trial_metrics(trial, step=0.5, other=True)
protocol.log_trial_metrics(trial, step="last", aggregator=ts.StatAggregator.lazy(), loss=2**60)
protocol.log_trial_chrono_start(trial, "epoch", start_callback=lambda: None, end_callback=lambda: None)
protocol.log_trial_chrono_finish(trial, "epoch")
protocol.commit("spooled")
for refused in (object(), 1j, float):
    try:
        protocol.log_trial_metrics(trial, loss=refused)
    except ts.InvalidType:
        pass
try:
    protocol.fetch_trials()
except ts.Offline:
    pass
protocol.set_trial_status(trial, ts.Status.Interrupted, ValueError("x"))
try:
    raise ValueError("x")
except ValueError as error:
    protocol.log_trial_finish(trial, type(error), error, error.__traceback__)
protocol.commit("spooled")
protocol.close()
print(*sorted({*sys.modules} - loaded))
assert {"motor", "pymongo", "bson"}.isdisjoint(sys.modules)
"""

CONNECTED_IN_A_HANDLER = """
import atexit, sys, threading
import trialstream as ts, trialstream.sync

@atexit.register
def log_late():
    with trialstream.sync.connect(offline=True, spool_dir=sys.argv[1]) as protocol:
        protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
        protocol.commit("spooled")
    print("logged")
"""


def run(text, *arguments):
    """Run a script in a process of its own, and return its output."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout


def test_importing_is_light():
    """The imports, settings, trials and statuses need no driver, no codec, no numpy and no event loop."""
    assert HEAVY.isdisjoint(run(LIGHT).split())


def test_an_open_protocol_imports_nothing(tmp_path):
    """After `open`, logging and closing import no module, so they work in signal handlers, forks and exit handlers."""
    assert run(OFFLINE, tmp_path).split() == []


def test_connecting_in_an_exit_handler(tmp_path):
    """A program that only imports trialstream before its end can still connect and log in an exit handler."""
    assert run(CONNECTED_IN_A_HANDLER, tmp_path).split() == ["logged"]


def test_the_public_names():
    """`dir()` and `import *` have all public names, also those that are imported at their first use."""
    names: dict[str, object] = {}
    exec("from trialstream import *", names)

    assert set(ts.__all__) <= set(dir(ts))
    assert set(ts.__all__) <= set(names)
    assert isinstance(ts.connect(), ts.KafkaProtocol)
    assert isinstance(ts.connect(read_only=True), ts.ReadOnlyProtocol)
    assert issubclass(ts.KafkaProtocol, ts.Protocol)
    assert pickle.loads(pickle.dumps(ts.KafkaProtocol)) is ts.KafkaProtocol
    with pytest.raises(AttributeError, match="module 'trialstream' has no attribute 'Kafka'"):
        _ = ts.Kafka
