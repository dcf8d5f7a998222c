"""The Protocol without servers: `connect("memory:")` and other URLs."""

from __future__ import annotations

import logging
import os
import threading
from importlib.metadata import EntryPoint

import pytest
import trialstream as ts
import trialstream.backends
import trialstream.sync
from test_imports import OFFLINE, run
from trialstream_consumer.fold import FoldFault, State
from trialstream_consumer.memory import store as store_module
from trialstream_consumer.memory.store import MemoryStore
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import TagsAdded, TrialCreated

HASH = "a" * 32


@pytest.fixture
def protocol():
    """A blocking protocol over a log of its own."""
    with trialstream.sync.connect("memory:") as protocol:
        yield protocol


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("redis:", "memory:, spool: and a place, got 'redis:'", id="unknown scheme"),
        pytest.param("memory", "url: expected one of .* got 'memory'", id="no colon"),
        pytest.param("", "url: expected one of", id="empty"),
        pytest.param("127.0.0.1:9092", "give the addresses of servers as kafka and mongo", id="an address"),
        pytest.param(3, "url: expected a text such as 'memory:', got int", id="a number"),
    ],
)
@pytest.mark.parametrize("connect", [ts.connect, trialstream.sync.connect], ids=["async", "sync"])
def test_wrong_urls(connect, url, message):
    """A URL of no backend is refused with the known ones."""
    with pytest.raises(ts.ConfigError, match=message):
        connect(url)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"kafka": "localhost:9092"}, "kafka: expected no value with memory:", id="a server"),
        pytest.param({"offline": True}, "offline: expected no value with memory:", id="offline"),
        pytest.param({"spools": 1}, "spools: expected no value with memory:", id="an unknown setting"),
        pytest.param({"when_full": "drop_oldest"}, "when_full: 'drop_oldest' drops events of the spool", id="no spool"),
        pytest.param({"memory_bytes": 1}, "memory_bytes: expected at least", id="a wrong value"),
        pytest.param({"timeout": -1}, "timeout: expected 0 or more seconds", id="a wrong timeout"),
        pytest.param({"read_only": True, "sync_writes": True}, "sync_writes: cannot be set", id="read-only writes"),
    ],
)
def test_settings_that_do_not_apply(settings, message):
    """Settings of servers, and wrong values, are refused at the call."""
    with pytest.raises(ts.ConfigError, match=message):
        ts.connect("memory:", **settings)


def test_the_environment_does_not_count(monkeypatch):
    """Settings of servers in the environment do not disturb tests of a user's code."""
    monkeypatch.setenv("TRIALSTREAM_OFFLINE", "1")
    monkeypatch.setenv("TRIALSTREAM_KAFKA", "not an address")

    with trialstream.sync.connect("memory:") as protocol:
        assert protocol.fetch_trials() == []


def test_a_backend_of_another_package(monkeypatch):
    """Any package can offer a scheme; it gets the place and the settings that were given."""
    calls = []
    entry = EntryPoint("mine", f"{__name__}:mine", "trialstream.backends")
    monkeypatch.setattr(trialstream.backends, "entry_points", lambda group: [entry] if "backends" in group else [])
    monkeypatch.setitem(globals(), "mine", lambda *args: calls.append(args))

    assert ts.connect("mine://there", timeout=2, prefix="p", speed=1) is None
    assert calls == [("//there", {"prefix": "p", "speed": 1}, 2)]


async def test_a_named_log_is_shared_by_the_process():
    """Protocols with the same name write to one log and read all of it; others have logs of their own."""
    name = f"memory:{os.urandom(4).hex()}"
    async with ts.connect(name) as one, ts.connect(name) as two, ts.connect("memory:") as other:
        trial = await one.new_trial(ts.Trial(name="t"))
        await two.log_trial_metrics(trial, loss=1.0)
        await two.commit("acked")
        [found] = await one.fetch_trials()
        assert found.metrics["loss"].last == 1.0
        assert await other.fetch_trials() == []
    with trialstream.sync.connect(name, read_only=True) as reader:
        assert [each.uid for each in reader.fetch_trials()] == [trial.uid]
        assert list(reader.fetch_metrics(trial)["loss"].values) == [1.0]
        with pytest.raises(ts.ProjectionIsReadOnly, match="connect without `read_only`"):
            reader.log_trial_start(trial)


FORK = """
import os
import trialstream as ts, trialstream.sync

with trialstream.sync.connect("memory:shared") as protocol:
    protocol.new_project(ts.Project(name="p"))
child = os.fork()
with trialstream.sync.connect("memory:shared") as protocol:
    found = len(protocol.fetch_projects())
if not child:
    os._exit(found)
print(found, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_has_logs_of_its_own():
    """A child does not share the logs of its parent, whose lock may have been held during the fork."""
    assert run(FORK).split() == ["1", "0"]


@pytest.mark.parametrize("level", ["acked", "folded", "spooled"])
def test_every_level_of_commit(protocol, level):
    """Each level means folded: there is no step between the log and the documents."""
    trial = protocol.new_trial(ts.Trial(name="t"))
    protocol.log_trial_metrics(trial, loss=1.0)
    protocol.commit(level, timeout=0)

    assert protocol.statistics()._replace(bytes=0) == ts.Statistics(queued=0, bytes=0, acked=2, dropped=0, spooled=0)


def test_synchronous_writes():
    """With `sync_writes`, each call returns when its event is folded; others see it without a commit."""
    name = f"memory:{os.urandom(4).hex()}"
    with (
        trialstream.sync.connect(name, sync_writes=True) as writer,
        trialstream.sync.connect(name, read_only=True) as reader,
        trialstream.sync.connect(name) as other,
    ):
        trial = writer.new_trial(ts.Trial(name="t"), auto_increment=True, wait=False)
        for step in range(3):
            writer.log_trial_metrics(trial, step=step, loss=0.5)
            assert reader.fetch_metrics(trial)["loss"].steps.tolist() == list(range(step + 1))
        [found] = other.fetch_trials(latest=True)
        assert found.metrics["loss"].count == 3


def test_an_open_protocol_imports_nothing():
    """Logging, reading and closing import no module, so they work in signal handlers and exit handlers."""
    script = OFFLINE.replace("connect(offline=True, spool_dir=sys.argv[1])", 'connect("memory:")').rpartition(
        "\nassert"
    )[0]

    assert run(script).split() == []


def test_results_are_copies(protocol):
    """A change of what a call has returned changes no later answer."""
    trial = protocol.new_trial(ts.Trial(name="t", parameters={"x": [1, {"y": 2}]}))
    protocol.log_trial_metrics(trial, {"r": 1.0}, aggregator=ts.RingAggregator.lazy(3))
    [found] = protocol.fetch_trials()
    found.parameters["x"][1]["y"] = 3
    found.metrics["r"].values.append(7)
    found.writers["w"] = 9
    protocol.log_trial_metrics(trial, {"r": 2.0}, aggregator=ts.RingAggregator.lazy(3))
    [again] = protocol.fetch_trials()

    assert again.parameters == {"x": [1, {"y": 2}]}
    assert again.metrics["r"].values == [1.0, 2.0]
    assert list(again.writers) == [protocol.writer]


def test_threads_with_a_protocol_each():
    """Claims of many protocols of one log have one winner each."""
    name = f"memory:{os.urandom(4).hex()}"
    claimed = []

    def claim():
        with trialstream.sync.connect(name) as protocol:
            for _ in range(5):
                query = {"status": "CreatedGroup"}
                claimed.append(protocol.fetch_and_update_trial(query, "set_trial_status", ts.Status.Running).uid)

    with trialstream.sync.connect(name) as protocol:
        for _ in range(20):
            protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
        threads = [threading.Thread(target=claim) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(claimed) == sorted(each.uid for each in protocol.fetch_trials())
        with pytest.raises(ts.ItemNotFound):
            protocol.fetch_and_update_trial({"status": "CreatedGroup"}, "log_trial_start")


def test_a_dead_letter_is_logged(protocol, caplog):
    """An event that cannot be folded is a dead letter, as in a consumer, and the trial goes on."""
    trial = protocol.new_trial(ts.Trial(name="t"))
    with caplog.at_level(logging.WARNING, "trialstream"):
        for n in range(25):
            protocol.add_trial_tags(trial, {f"n{n}": "x" * 510_000})
        protocol.add_trial_tags(trial, small=1)
        protocol.commit()
    [found] = protocol.fetch_trials()

    assert [each.message.partition(" bytes")[0] for each in caplog.records] == [
        f"an event became a dead letter: the document of trial {trial.uid} would exceed 12582912"
    ]
    assert (len(found.tags), "n24" in found.tags, found.tags["small"]) == (25, False, 1)


def test_a_fault_of_the_fold_costs_one_event(monkeypatch, caplog):
    """After a fault, the log is folded again without the event on which it failed."""
    events = [
        TrialCreated(trial=f"{HASH}~r", request="r", writer="w", time=0, name="t", parameters={}, auto_increment=False),
        *(TagsAdded(trial=f"{HASH}_0", writer="w", time=0, seq=n, values={f"t{n}": n}) for n in (1, 2, 3)),
    ]
    unknown = TagsAdded(trial=f"{HASH}_9", writer="w", time=0, seq=1, values={})
    fold_groups = store_module.fold_groups

    def faulty(state, batch, groups):
        groups = list(groups)
        for group in groups:
            for position in group:
                if isinstance(batch[position], TagsAdded) and batch[position].seq == 2:
                    raise FoldFault(group, ValueError("a bug"))
        return fold_groups(state, batch, groups)

    monkeypatch.setattr(store_module, "fold_groups", faulty)
    store = MemoryStore()
    assert store.append(("trials", 0), [encode(events[0])]) == (1, [])
    assert len(store.append(("trials", 0), [encode(unknown)])[1]) == 1  # not among the reasons below
    end, reasons = store.append(("trials", 0), [encode(each) for each in events[1:]])

    assert end == 5
    assert [each.partition(":")[0] for each in reasons] == ["the fold failed"]
    [document] = store.read("trials", list)
    assert (document["tags"], document["lost_events"]) == ({"t1": 1, "t3": 3}, 1)
    assert "please report this" in caplog.text
    assert isinstance(store._state, State)
