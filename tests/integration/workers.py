"""Functions that the tests of the Protocol run in processes of their own."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import trialstream as ts

__all__ = ["CONTEXT", "claim_all", "in_processes", "log_share"]

# A new interpreter with all imports takes a second of processor time, a fork of one takes almost none. Modules of the
# tests cannot be preloaded: the fork server has the path of the interpreter, not that of the tests.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["trialstream", "aiokafka.admin", "trialstream_console.local.consumer"])


async def in_processes(work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Make each call in a new process, all at the same time, and return their results."""
    loop = asyncio.get_running_loop()
    with CONTEXT.Manager() as manager, ProcessPoolExecutor(len(calls), mp_context=CONTEXT) as pool:
        together = manager.Barrier(len(calls))
        return await asyncio.gather(*(loop.run_in_executor(pool, work, together, *call) for call in calls))


def claim_all(together: Any, config: ts.Config, group: str) -> list[str]:
    """Claim trials of a group until none is left; return their uids."""

    async def main() -> list[str]:
        claimed = []
        async with ts.KafkaProtocol(config) as protocol:
            await asyncio.to_thread(together.wait, 60)
            while True:
                try:
                    trial = await protocol.fetch_and_update_trial(
                        {"group_id": group, "status": None}, "log_trial_start"
                    )
                except ts.ItemNotFound:
                    return claimed
                claimed.append(trial.uid)

    return asyncio.run(main())


def log_share(together: Any, config: ts.Config, uid: str, rows: int) -> str:
    """Log rows of metrics and chronos, and other events now and then, to one trial; return the id of the writer."""

    async def main() -> str:
        async with ts.KafkaProtocol(config) as protocol:
            [trial] = await protocol.fetch_trials({"uid": uid})
            await asyncio.to_thread(together.wait, 60)
            for i in range(rows):
                await protocol.log_trial_chrono_start(trial, "step", ts.StatAggregator.lazy(0))
                await protocol.log_trial_metrics(trial, step=i, loss=i)
                await protocol.log_trial_chrono_finish(trial, "step")
                if i % 100 == 0:
                    await protocol.add_trial_tags(trial, **{protocol.writer: i})
                    await protocol.commit()
            await protocol.commit(level="folded")
            return protocol.writer

    return asyncio.run(main())
