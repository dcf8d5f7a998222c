"""Random faults under load, for as long as one likes: `make soak DURATION=300 SEED=1`.

Writer processes log and claim, consumers fold, and meanwhile servers, consumers and writers are killed and paused,
spools are pushed, and the projection is rebuilt. In the end the oracle compares log and documents with what the writers
saw acknowledged, and `trialstream verify` compares the documents with the log once more. The same seed draws the same
faults; when they strike is up to the machine.
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
from injectors import killed, paused, step_down
from journal import Journal
from oracle import Figures, check, look
from pymongo.errors import PyMongoError
from service_support import bury, cli, records_of, send, until
from trialstream.config import Config
from trialstream.pipeline.push import push_spool
from trialstream.spool.folder import abandoned
from trialstream_console.local import LocalStack, LocalStackError
from trialstream_console.local.consumer import ConsumerService
from trialstream_console.local.consumer import environment as settings
from trialstream_schemas.wire.codec import SchemaStore
from writers import Writer, WriterProcess, connected

WRITERS = 4
CONSUMERS = 2
TRIALS = 12
JOBS = 300
MIB = 2**20
MODES = [{"spool": "overflow"}, {"spool": "always"}]


@dataclass
class World:
    """All that runs, and what it did.

    Attributes:
        faults: How many of each kind were made.
        rss: The largest resident size of a writer or consumer seen, in bytes.
    """

    stack: LocalStack
    config: Config
    folder: Path
    dice: Random
    trials: list[ts.Trial] = field(default_factory=list)
    journals: list[Journal] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    writers: list[WriterProcess] = field(default_factory=list)
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

    def start_writer(self, **mode) -> WriterProcess:
        """Start a writer, of one of the modes that need Kafka or of the given one, on one of the trials."""
        config = replace(self.config, **(mode or self.dice.choice(MODES)))
        path = self.folder / f"{len(self.files)}.journal"
        self.files.append(path)
        writer = WriterProcess(
            config, path, self.dice.choice(self.trials), calls=10**9, pause=0.01, claims=not mode, secures=40
        )
        self.writers.append(writer)
        return writer

    async def replace_writer(self, writer: WriterProcess) -> None:
        """Another one comes for one that has ended, and what it left is sent."""
        self.writers.remove(writer)
        self.start_writer()
        await self.push()

    async def push(self) -> None:
        """Send what processes that have ended left behind; what cannot be sent now is sent later."""
        for each in await run_sync(abandoned, self.config.spools):
            try:
                await push_spool(self.config, each, lambda _: None)
            except (ts.KafkaUnavailable, ts.SpoolBusy):
                continue

    # --- Faults of servers

    async def broker_killed(self) -> None:
        """For up to four seconds, and what its start takes."""
        async with killed(self.stack.kafka):
            await anyio.sleep(self.dice.uniform(0, 4))

    async def broker_paused(self) -> None:
        """Longer than one attempt to send, or shorter."""
        with paused(self.stack.kafka):
            await anyio.sleep(self.dice.uniform(0.2, 12))

    async def mongod_killed(self) -> None:
        """For up to four seconds."""
        async with killed(self.stack.mongo):
            await anyio.sleep(self.dice.uniform(0, 4))

    async def mongod_paused(self) -> None:
        """Longer than a transaction may take, or shorter."""
        with paused(self.stack.mongo):
            await anyio.sleep(self.dice.uniform(0.2, 12))

    async def mongod_stepped_down(self) -> None:
        """For two seconds."""
        await step_down(self.stack)

    # --- Faults of processes

    async def consumer_killed(self) -> None:
        """And started again."""
        consumer = self.dice.choice(self.consumers)
        await run_sync(consumer.kill)
        await anyio.sleep(self.dice.uniform(0, 2))
        await started(consumer)

    async def consumer_paused(self) -> None:
        """Given up by the group, and woken as a zombie."""
        consumer = self.dice.choice(self.consumers)
        with paused(consumer):
            with anyio.move_on_after(5):  # the broker may be away
                await bury(self.config)
            await anyio.sleep(self.dice.uniform(0.2, 6))

    async def consumer_stopped(self) -> None:
        """In good order, and started again."""
        consumer = self.dice.choice(self.consumers)
        await run_sync(consumer.stop)
        await started(consumer)

    async def writer_killed(self) -> None:
        """With all that it held in memory; the rest is pushed."""
        writer = self.dice.choice(self.writers)
        await run_sync(writer.kill)
        await self.replace_writer(writer)

    async def writer_ended(self) -> None:
        """In good order, whatever else is broken."""
        writer = self.dice.choice(self.writers)
        writer.stop()
        await run_sync(writer.join)
        await self.replace_writer(writer)

    async def run_without_servers(self) -> None:
        """Logged and pushed."""
        writer = self.start_writer(offline=True)
        await until(lambda: len(writer.journal.calls) > 200)
        writer.stop()
        await run_sync(writer.join)
        self.writers.remove(writer)
        await self.push()

    async def projection_rebuilt(self, *, kill: bool = False) -> None:
        """And switched over, if nothing comes between."""
        async with self.rebuilding:
            command = [sys.executable, "-m", "trialstream_console.cli", "rebuild"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = await anyio.open_process(command, env={**os.environ, **settings(self.config)}, **quiet)
            async with process:  # which kills it if it is left earlier
                with anyio.move_on_after(self.dice.uniform(0.5, 4) if kill else 90):
                    await process.wait()
                if process.returncode is None:
                    process.kill()

    async def rebuild_killed(self) -> None:
        """At any point."""
        await self.projection_rebuilt(kill=True)

    async def stretch_sent_again(self) -> None:
        """Some records of the log come once more."""
        records = [each for each in await records_of(self.config, self.config.trials_topic) if each.key]
        at = self.dice.randrange(len(records))
        some = records[at : at + self.dice.randrange(1, 60)]
        for each in some:
            await send(self.config, [each.value], partition=each.partition, key=each.key)

    async def poison_sent(self) -> None:
        """Bytes that are no event."""
        partition = self.dice.randrange(self.config.partitions)
        await send(self.config, [self.dice.randbytes(self.dice.randrange(40))], partition=partition)


async def started(consumer: ConsumerService, seconds: float = 120.0) -> None:
    """Start a consumer; it ends at once while a server is away, as whatever supervises one knows."""
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
            # One fault may be in the way of another; whether anything was lost, the oracle says.
            say(f"  {kind} was cut short by {type(error).__name__}")
        else:
            say(f"  {kind}")
        world.faults[kind] += 1
        await anyio.sleep(dice.uniform(0, 3))


async def watch(world: World) -> None:
    """Note the largest process."""
    while True:
        for each in (*world.writers, *world.consumers):
            try:
                world.rss = max(world.rss, psutil.Process(each.pid).memory_info().rss)
            except (psutil.Error, ts.TrialStreamError, TypeError):
                continue
        await anyio.sleep(0.5)


@asynccontextmanager
async def running(world: World):
    """Everything, until the block is left; then all is mended and what waits is pushed."""
    await world.prepare()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, world)
        try:
            yield
            for each in world.writers:
                each.stop()
            for each in world.writers:
                await run_sync(each.join)
            await world.push()
            for each in world.consumers:
                await started(each)
            assert await run_sync(abandoned, world.config.spools) == []
        finally:
            tasks.cancel_scope.cancel()
            for each in world.writers:
                each.kill()


async def soak(stack: LocalStack, folder: Path, duration: float, seed: int) -> str:
    """Run, check, and say what was seen."""
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
        figures = await check(config, [each for each in journals if each.writer])
        verified = await run_sync(lambda: cli(config, "verify", seconds=300))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        written, folded = await counts(config, figures)
    finally:
        for each in world.consumers:
            await run_sync(each.stop)
    assert figures.lost == 0
    assert written == folded
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(world.faults.items()))
    slowest = max(each.notes.get("slowest", 0.0) for each in journals)
    return (
        f"soak ok: seed {seed}, {world.faults.total()} faults ({kinds}), {written} events written, {folded} folded, "
        f"{figures.lost} lost, {folded - written} duplicated, max log call {1000 * slowest:.1f} ms, "
        f"max RSS {world.rss / MIB:.0f} MB"
    )


async def counts(config: Config, figures: Figures) -> tuple[int, int]:
    """Events that writers wrote, each once, and those that the documents say were folded."""
    schemas = SchemaStore()
    view = await run_sync(look, config)
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
    """Say it at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=60, help="seconds of faults")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # what writers say of outages is what is wanted here
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
