"""Load for the tests of the consumer: writers that record their calls, to compare them with the documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import trialstream as ts
from service_support import until
from trialstream.config import Config


def connected(config: Config) -> ts.Protocol:
    """Return a protocol for a configuration, not entered yet."""
    return ts.connect(kafka=config.kafka, mongo=config.mongo, prefix=config.prefix)


@dataclass
class Writer:
    """A protocol that writes to a trial of its own and to a trial that all writers share.

    Attributes:
        name: Name of the writer.
        trial: Trial of this writer.
        shared: Trial that all writers share.
        protocol: Protocol of this writer.
        rows: Rows logged to each of the two trials so far.
        updates: Updates of the own trial so far, other than metrics.
    """

    name: str
    trial: ts.Trial
    shared: ts.Trial
    protocol: ts.Protocol
    rows: int = 0
    updates: int = 0

    async def write(self) -> None:
        """Log one row to both trials, and every 20 rows an update."""
        await self.protocol.log_trial_metrics(self.trial, step=self.rows, loss=self.rows / 2, odd=self.rows % 2)
        await self.protocol.log_trial_metrics(self.shared, step=self.rows, **{self.name: float(self.rows)})
        self.rows += 1
        if self.rows % 20 == 0:
            self.updates += 1
            await self.protocol.add_trial_tags(self.trial, rows=self.rows)


@dataclass
class Load:
    """Writers that write until the block of `load` ends; then all their events are acknowledged.

    Attributes:
        config: Settings of the writers.
        writers: The writers.
    """

    config: Config
    writers: list[Writer] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows logged so far by all writers."""
        return sum(each.rows for each in self.writers)

    async def grow(self, rows: int) -> None:
        """Wait until a number of further rows is logged."""
        before = self.rows
        await until(lambda: self.rows >= before + rows)

    async def check(self) -> None:
        """Compare every document with the calls of its writers: nothing is missing, doubled or out of order."""
        async with connected(self.config) as reader:
            for writer in self.writers:
                [trial] = await reader.fetch_trials({"uid": writer.trial.uid})
                history = await reader.fetch_metrics(trial)
                numbers = list(range(writer.rows))

                assert trial.lost_events == 0
                assert trial.state_version == writer.updates
                assert trial.tags == ({"rows": writer.updates * 20} if writer.updates else {})
                assert trial.metrics["loss"].count == writer.rows
                assert trial.metrics["loss"].sum == sum(numbers) / 2
                assert trial.metrics["odd"].sum == writer.rows // 2
                assert history["loss"].steps.tolist() == numbers
                assert history["loss"].values.tolist() == [each / 2 for each in numbers]
                assert history["odd"].values.tolist() == [each % 2 for each in numbers]

                [shared] = await reader.fetch_trials({"uid": writer.shared.uid})
                history = await reader.fetch_metrics(shared, writer.name)

                assert shared.lost_events == 0
                assert len(shared.writers) == len(self.writers)
                assert history[writer.name].values.tolist() == [float(each) for each in numbers]


@asynccontextmanager
async def load(config: Config, writers: int = 3) -> AsyncIterator[Load]:
    """Run writers; a consumer must be running."""
    made = Load(config)
    stop = anyio.Event()
    started: list[anyio.Event] = [anyio.Event() for _ in range(writers)]
    async with connected(config) as protocol:
        shared = await protocol.new_trial(ts.Trial(name="shared"))
    assert shared is not None

    async def run(number: int) -> None:
        async with connected(config) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="own", parameters={"number": number}))
            assert trial is not None
            writer = Writer(f"w{number}", trial, shared, protocol)
            made.writers.append(writer)
            started[number].set()
            while not stop.is_set():
                await writer.write()
                await anyio.sleep(0.002)
            await protocol.commit(timeout=60)

    async with anyio.create_task_group() as tasks:
        for number in range(writers):
            tasks.start_soon(run, number)
        for each in started:
            await each.wait()
        try:
            yield made
        finally:
            stop.set()
