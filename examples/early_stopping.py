"""A search that stops its bad trials early: a watch compares the trials while they train.

trialstream up --detach
python examples/early_stopping.py

A trial is worse than the others if its loss is above the median of theirs at the same step. The watch then sets a
tag, for which the trial looks after each epoch, and stops.
"""

from __future__ import annotations

import asyncio
import statistics
import uuid

import trialstream as ts

EPOCHS = 30
RATES = (0.5, 0.3, 0.1, 0.03, 0.01, 0.001)
GRACE = 5  # epochs before a trial can be stopped


async def train(protocol: ts.KafkaProtocol, search: str, rate: float) -> None:
    """Train until the end, or until the trial has the tag `stop`."""
    trial = await protocol.new_trial(ts.Trial(name=search, parameters={"rate": rate}))
    assert trial is not None
    await protocol.log_trial_start(trial)
    loss = 1.0
    for epoch in range(1, EPOCHS + 1):
        loss *= 1 - rate / 2
        await protocol.log_trial_metrics(trial, step=epoch, loss=loss)
        await asyncio.sleep(0.1)  # the work of an epoch
        [(stopped,)] = await protocol.fetch_values(["tags.stop"], {"uid": trial.uid})
        if stopped:
            break
    await protocol.log_trial_finish(trial)


async def stop_early(protocol: ts.KafkaProtocol, search: str) -> None:
    """Set the tag `stop` of trials whose loss is worse than that of the others at the same step."""
    losses: dict[int, dict[str, float]] = {}  # by step and trial
    stopped = set()
    query = {"name": search, "status": "Running"}
    async for change in ts.watch(query, fields=["metrics.loss"]):
        if not change.matches or change.trial is None or "loss" not in change.trial.metrics:
            continue
        loss = change.trial.metrics["loss"]
        step = int(loss.last_step)
        of_step = losses.setdefault(step, {})
        of_step[change.uid] = loss.last
        others = [each for uid, each in of_step.items() if uid != change.uid]
        if step >= GRACE and len(others) >= 2 and loss.last > statistics.median(others) and change.uid not in stopped:
            stopped.add(change.uid)
            await protocol.add_trial_tags(change.trial, stop=True)


async def main() -> None:
    """Run the search."""
    search = f"search {uuid.uuid4().hex[:8]}"
    async with ts.connect() as protocol:
        watching = asyncio.create_task(stop_early(protocol, search))
        await asyncio.gather(*(train(protocol, search, rate) for rate in RATES))
        watching.cancel()
        found = await protocol.fetch_trials({"name": search}, sort="metrics.loss.last")
    stopped = sum("stop" in each.tags for each in found)
    print(f"{len(found)} trials, {stopped} stopped early; the best has rate {found[0].parameters['rate']}")


if __name__ == "__main__":
    asyncio.run(main())
