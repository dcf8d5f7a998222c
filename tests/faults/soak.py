"""Random faults under load, for any duration: `make soak DURATION=300 SEED=1`.

Writer processes log and claim, trackers and the ranks of a distributed run log and mark checkpoints, consumers fold,
and meanwhile servers, consumers, writers, trackers and ranks are killed and paused, trackers resume from their
checkpoints, spools are pushed, and the projection is rebuilt. In the end the oracle compares log and documents with the
journals of the writers, and what is read of the tracked runs with theirs, and `trialstream verify` compares the
documents with the log once more. The same seed draws the same faults; their timing depends on the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import anyio
import bson
import psutil
import trialstream as ts
from aiokafka.errors import KafkaError
from anyio.to_thread import run_sync
from injectors import killed, step_down
from journal import Journal
from lines import check_lines
from oracle import Figures, check, read_view
from pymongo.errors import PyMongoError
from service_support import bury, cli, paused, records_of, send, until
from trackers import TrackedRun
from trialstream.config import Config
from trialstream.pipeline.push import push_spool
from trialstream.spool.finding import abandoned
from trialstream_console.local import LocalStack, LocalStackError
from trialstream_console.local.consumer import ConsumerService
from trialstream_console.local.consumer import environment as settings
from trialstream_schemas.wire.codec import SchemaStore
from writers import Writer, WriterProcess, connected

WRITERS = 4
CONSUMERS = 2
TRIALS = 12
JOBS = 300
# Ranks of each tracked run; None for one process outside of a distributed run.
TRACKED = [None, None, 3]
# Pause between two steps of a tracked run, seconds.
TRACKER_PAUSE = 0.05
MIB = 2**20
MODES = [{"spool": "overflow"}, {"spool": "always"}]


@dataclass
class World:
    """All processes of a soak, and their records.

    Attributes:
        faults: Number of faults by kind.
        rss: Largest resident size of a writer, tracker or consumer seen, in bytes.
    """

    stack: LocalStack
    config: Config
    folder: Path
    dice: Random
    trials: list[ts.Trial] = field(default_factory=list)
    journals: list[Journal] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    writers: list[WriterProcess] = field(default_factory=list)
    runs: list[TrackedRun] = field(default_factory=list)
    consumers: list[ConsumerService] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    rss: int = 0
    rebuilding: anyio.Lock = field(default_factory=anyio.Lock)

    # --- Setting up

    async def prepare(self) -> None:
        """Start the consumers, and make the trials that are logged to and claimed."""
        for number in range(CONSUMERS):
            folder = self.folder / f"consumer {number}"
            folder.mkdir()
            self.consumers.append(ConsumerService(folder, self.config))
            await run_sync(self.consumers[-1].start)
        async with connected(self.config) as protocol:
            author = Writer(protocol, Journal())
            self.journals.append(author.journal)
            for number in range(TRIALS):
                self.trials.append(await author.create(ts.Trial(name="soak", parameters={"number": number})))
            for number in range(JOBS):
                await author.create(ts.Trial(name="job", parameters={"number": number}))
        for _ in range(WRITERS):
            self.start_writer()
        for number, ranks in enumerate(TRACKED):
            config = replace(self.config, **self.dice.choice(MODES))
            folder = self.folder / f"run {number}"
            self.runs.append(TrackedRun(config, folder, f"run {number}", ranks, pause=TRACKER_PAUSE))
            await self.runs[-1].begin()

    def start_writer(self, **mode) -> WriterProcess:
        """Start a writer on one of the trials, in the given mode or in one of those that need Kafka."""
        config = replace(self.config, **(mode or self.dice.choice(MODES)))
        path = self.folder / f"{len(self.files)}.journal"
        self.files.append(path)
        writer = WriterProcess(
            config, path, self.dice.choice(self.trials), calls=10**9, pause=0.01, claims=not mode, secures=40
        )
        self.writers.append(writer)
        return writer

    async def replace_writer(self, writer: WriterProcess) -> None:
        """Replace a writer that has ended, and push its spool."""
        self.writers.remove(writer)
        self.start_writer()
        await self.push()

    async def push(self) -> None:
        """Push the spools of processes that have ended; a spool that cannot be pushed now is pushed later."""
        for each in await run_sync(abandoned, self.config.spools):
            try:
                await push_spool(self.config, each, lambda _: None)
            except (ts.KafkaUnavailable, ts.SpoolBusy):
                continue

    # --- Faults of servers

    async def broker_killed(self) -> None:
        """Kill the broker for up to four seconds, plus the time of its start."""
        async with killed(self.stack.kafka):
            await anyio.sleep(self.dice.uniform(0, 4))

    async def broker_paused(self) -> None:
        """Pause the broker for less or more than one attempt to send."""
        with paused(self.stack.kafka):
            await anyio.sleep(self.dice.uniform(0.2, 12))

    async def mongod_killed(self) -> None:
        """Kill MongoDB for up to four seconds, plus the time of its start."""
        async with killed(self.stack.mongo):
            await anyio.sleep(self.dice.uniform(0, 4))

    async def mongod_paused(self) -> None:
        """Pause MongoDB for less or more than a transaction may take."""
        with paused(self.stack.mongo):
            await anyio.sleep(self.dice.uniform(0.2, 12))

    async def mongod_stepped_down(self) -> None:
        """Step MongoDB's primary down for two seconds."""
        await step_down(self.stack)

    # --- Faults of processes

    async def consumer_killed(self) -> None:
        """Kill a consumer, and start it again."""
        consumer = self.dice.choice(self.consumers)
        await run_sync(consumer.kill)
        await anyio.sleep(self.dice.uniform(0, 2))
        await started(consumer)

    async def consumer_paused(self) -> None:
        """Pause a consumer and remove it from the group; it continues as a zombie."""
        consumer = self.dice.choice(self.consumers)
        with paused(consumer):
            with anyio.move_on_after(5):  # the broker may be away
                await bury(self.config)
            await anyio.sleep(self.dice.uniform(0.2, 6))

    async def consumer_stopped(self) -> None:
        """Stop a consumer in order, and start it again."""
        consumer = self.dice.choice(self.consumers)
        await run_sync(consumer.stop)
        await started(consumer)

    async def writer_killed(self) -> None:
        """Kill a writer with all events that it holds in memory, and push its spool."""
        writer = self.dice.choice(self.writers)
        await run_sync(writer.kill)
        await self.replace_writer(writer)

    async def writer_ended(self) -> None:
        """End a writer in order, during any other fault."""
        writer = self.dice.choice(self.writers)
        writer.stop()
        await run_sync(writer.join)
        await self.replace_writer(writer)

    async def tracker_killed(self) -> None:
        """Kill a tracker, and resume from its checkpoint."""
        run = self.dice.choice([each for each in self.runs if each.ranks is None])
        await run_sync(run.kill)
        await anyio.sleep(self.dice.uniform(0, 1))
        await run.resume(late=self.dice.random() < 0.5)

    async def rank_killed(self) -> None:
        """Kill a rank; end the others by SIGTERM or a kill, and start all of them as a new attempt."""
        run = self.dice.choice([each for each in self.runs if each.ranks is not None])
        await run_sync(run.kill, self.dice.randrange(run.ranks))
        await anyio.sleep(self.dice.uniform(0, 1))
        if self.dice.random() < 0.5:
            await run_sync(run.terminate)
        await run.resume(late=self.dice.random() < 0.5)

    async def run_without_servers(self) -> None:
        """Log without servers, and push the spool."""
        writer = self.start_writer(offline=True)
        await until(lambda: len(writer.journal.calls) > 200)
        writer.stop()
        await run_sync(writer.join)
        self.writers.remove(writer)
        await self.push()

    async def projection_rebuilt(self, *, kill: bool = False) -> None:
        """Rebuild the projection and switch to it, unless another fault prevents the switch."""
        async with self.rebuilding:
            command = [sys.executable, "-m", "trialstream_console.cli", "rebuild"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = await anyio.open_process(command, env={**os.environ, **settings(self.config)}, **quiet)
            async with process:  # leaving this block early kills the process
                with anyio.move_on_after(self.dice.uniform(0.5, 4) if kill else 90):
                    await process.wait()
                if process.returncode is None:
                    process.kill()

    async def rebuild_killed(self) -> None:
        """Kill a rebuild at a random moment."""
        await self.projection_rebuilt(kill=True)

    async def stretch_sent_again(self) -> None:
        """Send some records of the log once more."""
        records = [each for each in await records_of(self.config, self.config.trials_topic) if each.key]
        at = self.dice.randrange(len(records))
        some = records[at : at + self.dice.randrange(1, 60)]
        for each in some:
            await send(self.config, [each.value], partition=each.partition, key=each.key)

    async def poison_sent(self) -> None:
        """Send bytes that are not an event."""
        partition = self.dice.randrange(self.config.partitions)
        await send(self.config, [self.dice.randbytes(self.dice.randrange(40))], partition=partition)


async def started(consumer: ConsumerService, seconds: float = 120.0) -> None:
    """Start a consumer, and again if it ends because a server is away, as a supervisor of processes does."""
    deadline = time.monotonic() + seconds
    while not consumer.running:
        try:
            await run_sync(consumer.start)
        except LocalStackError:
            if time.monotonic() > deadline:
                raise
            await anyio.sleep(0.5)


SERVERS = ["broker_killed", "broker_paused", "mongod_killed", "mongod_paused", "mongod_stepped_down"]
PROCESSES = [
    *("consumer_killed", "consumer_paused", "consumer_stopped", "writer_killed", "writer_killed", "writer_ended"),
    *("tracker_killed", "tracker_killed", "rank_killed", "rank_killed"),
    *("run_without_servers", "projection_rebuilt", "rebuild_killed", "stretch_sent_again", "poison_sent"),
]


async def inject(world: World, kinds: list[str], seed: int, deadline: float) -> None:
    """Make one fault after another until the deadline."""
    dice = Random(seed)
    while time.monotonic() < deadline:
        kind = dice.choice(kinds)
        try:
            with anyio.fail_after(150):
                await getattr(world, kind)()
        except (ts.TrialStreamError, KafkaError, PyMongoError, TimeoutError) as error:
            # One fault may prevent another; the oracle finds lost events.
            say(f"  {kind} was cut short by {type(error).__name__}")
        else:
            say(f"  {kind}")
        world.faults[kind] += 1
        await anyio.sleep(dice.uniform(0, 3))


async def watch(world: World) -> None:
    """Record the largest resident size of the processes."""
    while True:
        trackers = [life.process for run in world.runs for life in run.latest]
        for each in (*world.writers, *world.consumers, *trackers):
            try:
                world.rss = max(world.rss, psutil.Process(each.pid).memory_info().rss)
            except (psutil.Error, ts.TrialStreamError, TypeError):
                continue
        await anyio.sleep(0.5)


@asynccontextmanager
async def running(world: World):
    """Run everything until the block is left; then start everything again and push all spools."""
    await world.prepare()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, world)
        try:
            yield
            for each in world.writers:
                each.stop()
            for each in world.writers:
                await run_sync(each.join)
            for each in world.runs:
                await each.finish()
            await world.push()
            for each in world.consumers:
                await started(each)
            assert await run_sync(abandoned, world.config.spools) == []
        finally:
            tasks.cancel_scope.cancel()
            for each in (*world.writers, *world.runs):
                each.kill()


async def soak(stack: LocalStack, folder: Path, duration: float, seed: int) -> str:
    """Run the soak, check the data, and return a summary."""
    config = Config(
        kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix=f"soak-{seed}", partitions=4,
        spool_dir=str(folder / "spool"), memory_bytes=16 * MIB,
    )  # fmt: skip
    world = World(stack, config, folder, Random(seed))
    try:
        async with running(world):
            deadline = time.monotonic() + duration
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(inject, world, SERVERS, 2 * seed, deadline)
                tasks.start_soon(inject, world, PROCESSES, 2 * seed + 1, deadline)
        paths = [each for path in world.files for each in (path, path.with_suffix(".claims")) if each.exists()]
        journals = [*world.journals, *(Journal.load(each) for each in paths)]
        tracked = [journal for run in world.runs for journal in run.journals]
        journals += tracked
        figures = await check(config, [each for each in journals if each.writer])
        lines = await check_lines(config, world.runs)
        verified = await run_sync(lambda: cli(config, "verify", seconds=300))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        written, folded = await counts(config, figures)
    finally:
        for each in world.consumers:
            await run_sync(each.stop)
    assert figures.lost == 0
    assert written == folded
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(world.faults.items()))
    slowest, of_trackers = (max(each.notes.get("slowest", 0.0) for each in given) for given in (journals, tracked))
    return (
        f"soak ok: seed {seed}, {world.faults.total()} faults ({kinds}), {written} events written, {folded} folded, "
        f"{figures.lost} lost, {folded - written} duplicated, {len(world.runs)} tracked runs with {lines.attempts} "
        f"attempts, {lines.rewinds} of them rewinds, and {lines.superseded} of {lines.rows} rows superseded, "
        f"max log call {1000 * slowest:.1f} ms, of a tracker {1000 * of_trackers:.1f} ms, "
        f"max RSS {world.rss / MIB:.0f} MB"
    )


async def counts(config: Config, figures: Figures) -> tuple[int, int]:
    """Count the events that writers wrote, each once, and those that are folded according to the documents."""
    schemas = SchemaStore()
    view = await run_sync(read_view, config)
    log = [
        each.value for topic in (config.registry_topic, config.trials_topic) for each in await records_of(config, topic)
    ]
    events = sum(_is_event(schemas, each) for each in log) - 1  # LogCreated
    subjects = [bson.decode(each) for kind in ("trials", "groups") for each in view.documents[kind].values()]
    marks = sum(sum(each["writers"].values()) - each["lost_events"] for each in subjects)
    return events - figures.duplicated, marks + len(view.documents["outcomes"])


def _is_event(schemas: SchemaStore, value: bytes) -> bool:
    try:
        schemas.decode(value)
    except ts.SchemaError:
        return False
    return True


def say(text: str) -> None:
    """Write a line to stdout at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=60, help="seconds of faults")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # warnings of outages are expected here
    os.environ["PYTHONWARNINGS"] = "ignore"
    with tempfile.TemporaryDirectory() as folder, LocalStack(consumer=False) as stack:
        try:
            said = anyio.run(soak, stack, Path(folder), given.duration, given.seed)
        except Exception:
            say(f"soak FAILED: seed {given.seed}")
            raise
    say(said)


if __name__ == "__main__":
    main()
