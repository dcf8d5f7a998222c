"""Events that Kafka refuses because they are too large for their topic, whose limit was lowered."""

from __future__ import annotations

import os
import shlex
import time
import warnings
from pathlib import Path

import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from contract import again
from service_support import caught_up, cli, set_limit
from trialstream.pipeline.push import push_spool, waiting_spools
from trialstream.spool.segment import read_segment

LIMIT = 200_000
ROWS = 3000


def connected(config, **settings):
    """Return a protocol with its spool in the folder of the test, not entered yet."""
    return ts.connect(
        kafka=config.kafka, mongo=config.mongo, prefix=config.prefix, spool_dir=config.spool_dir, **settings
    )


def filler(size=LIMIT):
    """Text of that size that does not compress."""
    return os.urandom(size // 2).hex()


async def test_a_refused_event_does_not_hold_up_its_partition(config, consumer):
    """The event goes to the refused file and counts as dropped; all others arrive, in order, once, under the limit."""
    consumer(config)
    with pytest.warns(RuntimeWarning) as said:
        async with connected(config) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="a"))
            await set_limit(config, LIMIT)
            for i in range(ROWS):
                await protocol.log_trial_metrics(trial, step=i, loss=i / 4)
                if i % 10 == 0:
                    await protocol.add_trial_tags(trial, last=i, text=filler(20_000))
                if i == ROWS // 2:
                    await protocol.log_trial_metadata(trial, large=filler(), small=1)
            await protocol.commit("acked")
            await protocol.commit("folded")
            found, history = await again(protocol, trial), await protocol.fetch_metrics(trial, "loss")
            statistics = protocol.statistics()

    assert (found.lost_events, statistics.dropped, statistics.queued) == (1, 1, 0)
    assert history["loss"].steps.tolist() == list(range(ROWS))
    assert (found.state_version, found.tags["last"], found.metadata) == (ROWS // 10, ROWS - 10, {})
    [path] = (config.spools / protocol.writer).glob("refused-*.avro")
    contents = read_segment(path)
    assert len(contents.events) == 1
    at_once, closing = (str(each.message) for each in said)
    assert f"MetadataLogged of trial {trial.uid} with " in at_once
    assert f"is larger than topic {config.trials_topic} takes" in at_once
    assert "closed with events that were not sent: 1 event that Kafka refused as too large" in closing
    assert all(f"push --refused {path.parent}" in each for each in (at_once, closing))
    assert {each.filename for each in said} == {__file__}


async def test_a_refused_event_is_sent_after_the_limit_was_raised(config, consumer):
    """`spool` lists it; `push` keeps it until `--refused` is given and the topic takes it; then it is folded, once."""
    consumer(config)
    with pytest.warns(RuntimeWarning):
        async with connected(config) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="a"))
            await set_limit(config, LIMIT)
            await protocol.log_trial_metadata(trial, large="x" * LIMIT)
            await protocol.log_trial_metrics(trial, step=1, loss=0.5)
            await protocol.log_trial_metadata(trial, later=1)
    folder = config.spools / protocol.writer
    copies = {each.name: each.read_bytes() for each in folder.iterdir()}
    listed = await run_sync(cli, config, "spool", str(folder))
    kept = await run_sync(cli, config, "push", str(folder))
    halted = await run_sync(cli, config, "push", "--refused", str(folder))
    [waiting] = waiting_spools([folder])
    await set_limit(config, 1_000_000)
    sent = await run_sync(cli, config, "push", "--refused", str(folder))
    async with connected(config) as reader:
        await caught_up(config)
        found = await again(reader, trial)
        folder.mkdir(parents=True)
        for name, data in copies.items():
            (folder / name).write_bytes(data)
        await push_spool(config, folder, lambda _: None, with_refused=True)
        await reader.new_trial(ts.Trial(name="a"), auto_increment=True)  # after all other events in the partition
        after = await again(reader, trial)

    command = f"trialstream push --refused {shlex.quote(str(folder))}"
    notice = f"; 1 event that Kafka refused as too large: raise max.message.bytes, then run `{command}`\n"
    assert listed.stdout.startswith(f"{folder}: 0 events, ")
    assert listed.stdout.endswith(notice)
    assert kept.stdout == f"sent 0 events from {folder}{notice}"
    assert (halted.returncode, halted.stdout) == (1, "")
    assert f"is larger than topic {config.trials_topic} takes" in halted.stderr
    assert "raise max.message.bytes of the topic, and run the push again" in halted.stderr
    assert "Traceback" not in halted.stderr
    assert (waiting.events, waiting.refused, waiting.writer) == (1, 0, protocol.writer)
    assert sent.stdout == f"sent 1 event from {folder}\n"
    assert (found.metadata["later"], len(found.metadata["large"]), found.rows) == (1, LIMIT, 1)
    assert (found.lost_events, found.state_version) == (1, 2)
    assert after == found


@pytest.mark.parametrize("size", [LIMIT, 2 * LIMIT])
async def test_a_refused_request_fails_at_its_caller(config, consumer, size):
    """A claim or a creation whose event is refused raises at once, and is not sent later; the next ones succeed."""
    consumer(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with connected(config, timeout=20) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="a"))
            await set_limit(config, LIMIT)
            started = time.monotonic()
            with pytest.raises(ts.InvalidValue, match=r"TrialCreated of trial .* larger than topic .*nothing was"):
                await protocol.new_trial(ts.Trial(name="large", parameters={"x": "x" * size}))
            with pytest.raises(ts.InvalidValue, match=r"MetadataLogged of trial .* larger than topic .*nothing was"):
                await protocol.fetch_and_update_trial({"name": "a"}, "log_trial_metadata", x="x" * size)
            seconds = time.monotonic() - started
            claimed = await protocol.fetch_and_update_trial({"name": "a"}, "log_trial_metadata", x=1)
            small = await protocol.new_trial(ts.Trial(name="large", parameters={"x": "x"}))
            found = await protocol.fetch_trials({})

    assert seconds < 15
    assert (claimed.uid, claimed.metadata) == (trial.uid, {"x": 1})
    assert {each.uid for each in found} == {trial.uid, small.uid}
    assert not config.spools.exists()


async def test_a_refused_event_without_a_spool(config, consumer):
    """Without a spool the event is lost: the warnings name it, and it counts as dropped."""
    consumer(config)
    with pytest.warns(RuntimeWarning) as said:
        async with connected(config, spool="off") as protocol:
            trial = await protocol.new_trial(ts.Trial(name="a"))
            await set_limit(config, 2000)
            for i in range(256):
                await protocol.log_trial_metrics(trial, step=i, loss=i)
            await protocol.add_trial_tags(trial, last=True)
            found = await again(protocol, trial)
            dropped = protocol.statistics().dropped

    assert found.lost_events == dropped >= 1
    assert found.tags == {"last": True}
    at_once, closing = (str(each.message) for each in said)
    assert f"MetricsLogged of trial {trial.uid} with " in at_once
    assert " rows and " in at_once
    assert "the event is lost (there is no spool: TRIALSTREAM_SPOOL is off) and counts as dropped" in at_once
    wanted = (
        "event that Kafka refused as too large is" if dropped == 1 else "events that Kafka refused as too large are"
    )
    assert f"{dropped} {wanted} lost" in closing


async def test_a_refused_event_of_the_sync_protocol(config, consumer):
    """The warnings point to the lines of the block."""
    consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
    await set_limit(config, LIMIT)
    settings = {name: getattr(config, name) for name in ("kafka", "mongo", "prefix", "spool_dir")}

    def log():
        with trialstream.sync.connect(**settings) as protocol:
            protocol.add_trial_tags(trial, large="x" * LIMIT)
            protocol.add_trial_tags(trial, large="x")
            protocol.commit("folded")
            return protocol.fetch_trials({"uid": trial.uid})[0]

    with pytest.warns(RuntimeWarning) as said:
        found = await run_sync(log)

    assert (found.tags, found.lost_events) == ({"large": "x"}, 1)
    assert [Path(each.filename).name for each in said] == ["test_refused_events.py"] * 2
    assert "TagsAdded" in str(said[0].message)
