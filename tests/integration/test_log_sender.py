"""The sender: events arrive complete and in order although the broker dies (go-back-N)."""

from __future__ import annotations

import time

import anyio
import trialstream as ts
from anyio.to_thread import run_sync
from service_load import connected
from service_support import records_of, until
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import SubjectEvent

ROWS = 2000


async def test_a_killed_broker_loses_and_reorders_nothing(config, consumer, stack):
    """Log calls neither raise nor wait for a killed broker; no event is missing, counted twice or out of order."""
    service = consumer(config)
    slowest = 0.0
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        logged = 0

        async def log_rows():
            nonlocal logged, slowest
            for i in range(ROWS):
                started = time.perf_counter()
                await protocol.log_trial_metrics(trial, step=i, loss=i / 4)
                if i % 10 == 0:
                    await protocol.add_trial_tags(trial, i=i)
                slowest = max(slowest, time.perf_counter() - started)
                logged += 1
                await anyio.sleep(0.001)

        async def break_the_broker():
            await until(lambda: logged > ROWS * 0.2)
            await run_sync(stack.kafka.kill)
            await until(lambda: logged > ROWS * 0.6)
            await run_sync(stack.kafka.start)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log_rows)
            tasks.start_soon(break_the_broker)
        await protocol.commit("folded", timeout=60)
        [again] = await protocol.fetch_trials({"uid": trial.uid})
        history = await protocol.fetch_metrics(trial, "loss")
        dropped = protocol.statistics().dropped

    assert (again.lost_events, dropped) == (0, 0)
    assert again.state_version == ROWS // 10
    assert again.metrics["loss"].count == ROWS
    assert history["loss"].steps.tolist() == list(range(ROWS))
    assert history["loss"].values.tolist() == [i / 4 for i in range(ROWS)]
    assert slowest < 1.0  # tolerance for a busy machine; the fault suite measures precisely
    assert service.running

    schemas = SchemaStore()
    events = [schemas.decode(each.value) for each in await records_of(config, config.trials_topic)]
    seqs = [each.seq for each in events if isinstance(each, SubjectEvent) and each.seq]
    first_seen = list(dict.fromkeys(seqs))

    assert first_seen == list(range(1, len(first_seen) + 1))
