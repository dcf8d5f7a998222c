"""`open` and `close`, the twins of the block; `writer` and `statistics`; for all three protocols."""

from __future__ import annotations

import inspect

import pytest
import trialstream as ts
import trialstream.sync


@pytest.fixture
def settings(tmp_path):
    """Settings of a protocol without servers."""
    return {"offline": True, "spool_dir": str(tmp_path)}


NO_SERVER = {"mongo": "mongodb://127.0.0.1:1", "read_only": True}


async def test_async(settings, tmp_path):
    """An opened protocol logs until it is closed, and its events are on disk then."""
    protocol = ts.connect(**settings)
    await protocol.open()
    await protocol.new_trial(ts.Trial(name="t"))
    counts = protocol.statistics()
    await protocol.close()
    await protocol.close()

    assert counts.queued == 1
    assert list((tmp_path / "trialstream" / protocol.writer).iterdir())
    with pytest.raises(ts.ProtocolClosed):
        protocol.statistics()
    with pytest.raises(ts.ProtocolClosed, match="once"):
        await protocol.open()


def test_sync(settings, tmp_path):
    """The blocking twins do the same."""
    protocol = trialstream.sync.connect(**settings)
    protocol.close()  # not open: nothing to do
    with pytest.raises(ts.ProtocolClosed, match="not open"):
        protocol.statistics()
    protocol.open()
    with pytest.raises(ts.ProtocolClosed, match="once"):
        protocol.open()
    protocol.new_trial(ts.Trial(name="t"))
    counts = protocol.statistics()
    protocol.close()
    protocol.close()

    assert isinstance(counts, ts.Statistics)
    assert counts.queued == 1
    assert list((tmp_path / "trialstream" / protocol.writer).iterdir())
    with pytest.raises(ts.ProtocolClosed):
        protocol.statistics()
    with pytest.raises(ts.ProtocolClosed, match="once"):
        protocol.open()


def test_a_second_open_leaves_the_first_one_open(settings):
    """A protocol that is opened twice by mistake can still be used and closed."""
    with trialstream.sync.connect(**settings) as protocol:
        with pytest.raises(ts.ProtocolClosed, match="once"):
            protocol.open()
        protocol.new_trial(ts.Trial(name="t"))

        assert protocol.statistics().queued == 1


def test_an_open_that_failed_can_be_repeated(tmp_path):
    """An opening without Kafka and without a spool fails, is not open, and may be tried again."""
    protocol = trialstream.sync.connect(kafka="127.0.0.1:1", timeout=0.2, spool="off", spool_dir=str(tmp_path))
    for _ in range(2):
        with pytest.raises(ts.KafkaUnavailable):
            protocol.open()
        with pytest.raises(ts.ProtocolClosed, match="not open"):
            protocol.log_trial_start(ts.Trial(name="t"))
        protocol.close()


async def test_read_only():
    """A read-only protocol opens and closes likewise; it has no counts and no id of a writer."""
    protocol = ts.connect(**NO_SERVER)
    await protocol.open()
    for access in (protocol.statistics, lambda: protocol.writer):
        with pytest.raises(ts.ProjectionIsReadOnly, match="read-only"):
            access()
    await protocol.close()

    blocking = trialstream.sync.connect(**NO_SERVER)
    blocking.open()
    for access in (blocking.statistics, lambda: blocking.writer):
        with pytest.raises(ts.ProjectionIsReadOnly, match="read-only"):
            access()
    blocking.close()


def test_the_blocking_protocol_has_all_public_names():
    """Methods and properties of the interface exist on the blocking protocol, with the same parameters."""
    for name, each in vars(ts.Protocol).items():
        if not name.startswith("_"):
            ours = getattr(trialstream.sync.SyncProtocol, name)
            assert isinstance(ours, property) == isinstance(each, property), name
            if callable(each):
                assert list(inspect.signature(ours).parameters) == list(inspect.signature(each).parameters), name
