"""Writers that keep journals: in this process (`load`) and in processes of their own (`WriterProcess`)."""

from __future__ import annotations

import asyncio
import math
import resource
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import trialstream as ts
from journal import Journal, call
from service_support import until
from trialstream.config import Config
from trialstream.pipeline import sender
from workers import CONTEXT

COMMIT_SECONDS = 60.0


def connected(config: Config, timeout: float = 30.0) -> ts.KafkaProtocol:
    """Return a protocol for a configuration, not entered yet."""
    return ts.KafkaProtocol(config, timeout=timeout)


class Stopwatch:
    """Measures calls, and separates their own duration from stalls of the machine.

    A control thread makes short sleeps and records when one ends late: then no thread of the process ran, or another
    one kept the interpreter. The kernel counts how long the calling thread was ready to run and had no processor. The
    part of a call's duration that lies in such a stall, or the wait for a processor if that is longer, is not the
    call's own. A call that itself stalls the others, by keeping the interpreter, shows in the processor time of its
    thread.

    Attributes:
        slowest: Longest duration of a call without stalls, seconds.
        busiest: Largest processor time of a call, seconds.
        wall: Longest duration of a call including stalls, seconds.
    """

    TICK = 0.002
    LATE = 0.004

    def __init__(self):
        self.slowest = self.busiest = self.wall = 0.0
        self._stalls: list[tuple[float, float]] = []
        self._slow: list[tuple[float, float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._control, name="control", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        for began, ended, delayed in self._slow:
            late = sum(max(0.0, min(ended, end) - max(began, start)) for start, end in self._stalls)
            self.slowest = max(self.slowest, ended - began - max(late, delayed))

    async def time(self, awaitable):
        """Await a call, and measure it."""
        with self.timing():
            return await awaitable

    @contextmanager
    def timing(self):
        """Measure a block."""
        began, cpu, delayed = time.perf_counter(), time.thread_time(), _delayed()
        try:
            yield
        finally:
            ended = time.perf_counter()
            self.busiest = max(self.busiest, time.thread_time() - cpu)
            self.wall = max(self.wall, ended - began)
            if ended - began > 0.01:
                self._slow.append((began, ended, _delayed() - delayed))

    def _control(self):
        while not self._stop.is_set():
            began = time.perf_counter()
            time.sleep(self.TICK)
            ended = time.perf_counter()
            if ended - began > self.TICK + self.LATE:
                self._stalls.append((began + self.TICK, ended))


def _delayed() -> float:
    """Return the seconds that this thread was ready without a processor; 0 if the kernel does not report them."""
    try:
        return int(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


@dataclass
class Writer:
    """A protocol whose calls are recorded and measured."""

    protocol: ts.KafkaProtocol
    journal: Journal
    watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self):
        self.journal.add("writer", self.protocol.writer)

    async def _log(self, awaitable, trial, kind, *content):
        self.journal.add("call", *call(trial.uid, kind, *content))
        await self.watch.time(awaitable)

    async def metrics(self, trial, step=None, lazy=ts.timeseries_aggregator, **values):
        """Log one row."""
        row = {name: float(x) for name, x in values.items()}
        logging = self.protocol.log_trial_metrics(trial, step=step, aggregator=lazy, **values)
        await self._log(logging, trial, "metrics", step, row, [lazy.kind, lazy.argument])

    async def chrono(self, trial, name):
        """Start and finish a chrono."""
        await self.watch.time(self.protocol.log_trial_chrono_start(trial, name))
        await self._log(self.protocol.log_trial_chrono_finish(trial, name), trial, "chrono", name)

    async def tags(self, trial, **values):
        """Add tags."""
        await self._log(self.protocol.add_trial_tags(trial, **values), trial, "tags", values)

    async def arguments(self, trial, **values):
        """Log arguments."""
        await self._log(self.protocol.log_trial_arguments(trial, **values), trial, "arguments", values)

    async def metadata(self, trial, lazy, **values):
        """Log metadata."""
        logging = self.protocol.log_trial_metadata(trial, lazy, **values)
        await self._log(logging, trial, "metadata", values, [lazy.kind, lazy.argument])

    async def status(self, trial, status, error=None):
        """Set the status."""
        await self._log(self.protocol.set_trial_status(trial, status, error), trial, "status", status.name, error)

    async def start(self, trial):
        """Log the start of a trial."""
        await self._log(self.protocol.log_trial_start(trial), trial, "start")

    async def finish(self, trial):
        """Log the end of a trial."""
        await self._log(self.protocol.log_trial_finish(trial), trial, "finish", False, None)

    async def mixed(self, trial, i):
        """Make the calls of the i-th step of a run that uses most of the protocol."""
        await self.metrics(trial, i, loss=1 / (i + 1), accuracy=math.nan if i % 50 == 49 else i / 7)
        if i % 3 == 0:
            await self.chrono(trial, "step")
        match i % 20:
            case 3:
                await self.metrics(trial, f"epoch {i}", validation=i)
            case 7:
                await self.metrics(trial, None, ts.StatAggregator.lazy(0), grad=-i)
            case 9:
                await self.metrics(trial, i / 2, **{"a.b": math.inf, "$c": 0})
            case 11:
                await self.tags(trial, **{f"{self.journal.writer} said": i, "nested": {"a.b": [None, True, 1.5, "é"]}})
            case 13:
                await self.metadata(trial, ts.timeseries_aggregator, temperature=float(i))
            case 15:
                await self.metadata(trial, ts.value_aggregator, note=f"n{i}")
            case 17:
                await self.arguments(trial, batch=i)
            case 19:
                await self.status(trial, ts.CustomStatus("Paused", 150), "enough" if i % 40 == 19 else None)

    async def commit(self, seconds=COMMIT_SECONDS):
        """Wait until all events are acknowledged, and record that."""
        made = len(self.journal.calls)
        await self.protocol.commit("acked", timeout=seconds)
        self.journal.add("acked", made)

    async def secure(self, seconds=COMMIT_SECONDS):
        """Wait until all events are acknowledged or on disk, so that none of them may be lost, and record that."""
        made = len(self.journal.calls)
        await self.protocol.commit("spooled", timeout=seconds)
        self.journal.add("acked", made)

    async def create(self, trial, **kwargs):
        """Create a trial."""
        created = await self._request(self.protocol.new_trial(trial, **kwargs))
        if created is not None:
            self.journal.add("answer", "create", created.uid)
        return created

    async def claim(self, query):
        """Claim a trial by several updates; return None if none is left or the answer did not come in time."""
        updates = [
            ts.update("log_trial_start"),
            ts.update("log_trial_metadata", worker=self.journal.writer),
            ts.update("log_trial_metrics", step=0, claimed=1.0),
        ]
        try:
            trial = await self._request(self.protocol.fetch_and_update_trial(query, updates=updates))
        except (ts.ItemNotFound, ts.CommitTimeout, ts.ProjectionBehind, ts.MongoUnavailable, ts.KafkaUnavailable):
            return None
        self.journal.add("answer", "claim", trial.uid)
        return trial

    async def _request(self, awaitable):
        # Recorded before the request and cleared by its answer: a writer that dies in between has no answer.
        self.journal.add("asks")
        answer = None
        try:
            answer = await awaitable
        except ts.ItemNotFound:
            self.journal.add("answered")
            raise
        self.journal.add("answered")
        return answer

    def note(self):
        """Record the figures: seconds `slowest`, `busiest`, `wall` of the log calls, and the process's `rss`."""
        for name in ("slowest", "busiest", "wall"):
            self.journal.add(name, getattr(self.watch, name))
        self.journal.add("rss", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        self.journal.add("dropped", self.protocol.statistics().dropped)


# --- In this process


@dataclass
class Load:
    """Writers that run until the block is left."""

    writers: list[Writer] = field(default_factory=list)
    trials: list[ts.Trial] = field(default_factory=list)

    @property
    def journals(self) -> list[Journal]:
        """Journals of all writers and of the author of the trials."""
        return [each.journal for each in self.writers]

    @property
    def calls(self) -> int:
        """Number of log calls made so far."""
        return sum(len(each.calls) for each in self.journals)

    async def grow(self, calls: int, seconds: float = 60.0) -> None:
        """Wait for a number of further log calls."""
        before = self.calls
        await until(lambda: self.calls >= before + calls, seconds)


@asynccontextmanager
async def load(config: Config, *, writers: int = 3, pause: float = 0.004, claims: int = 0):
    """Run writers with a trial of their own each and one that they share, and meanwhile claim a number of trials.

    A consumer must run when the block is entered. When it is left, all events are acknowledged.
    """
    running = Load()
    stop = anyio.Event()

    async def write(writer, own, shared):
        i = 0
        while not stop.is_set():
            await writer.mixed(own, i)
            await writer.metrics(shared, i, **{f"w{own.parameters['number']}": i})
            i += 1
            if i % 100 == 0:
                await writer.commit()
            await anyio.sleep(pause)
        await writer.commit()

    async def claim(writer):
        while not stop.is_set() and await writer.claim({"name": "job", "status": None}):
            pass
        await writer.commit()

    async with connected(config) as first:
        author = Writer(first, Journal())
        running.writers.append(author)
        shared = await author.create(ts.Trial(name="shared"))
        for number in range(claims):
            await author.create(ts.Trial(name="job", parameters={"number": number}))
        planned = ts.CustomStatus("Planned", 50)
        owns = [
            await author.create(ts.Trial(name="own", parameters={"number": n}, status=planned)) for n in range(writers)
        ]
        running.trials = [shared, *owns]
        async with _protocols(config, writers) as protocols, anyio.create_task_group() as tasks:
            for own, protocol in zip(owns, protocols, strict=True):
                running.writers.append(writer := Writer(protocol, Journal()))
                tasks.start_soon(write, writer, own, shared)
                if claims:
                    tasks.start_soon(claim, writer)
            try:
                yield running
            finally:
                stop.set()


@asynccontextmanager
async def _protocols(config, count):
    async with anyio.create_task_group() as tasks:
        opened = [connected(config) for _ in range(count)]
        for each in opened:
            tasks.start_soon(each.__aenter__)
    try:
        yield opened
    finally:
        for each in opened:
            await each.__aexit__(None, None, None)


# --- In processes of their own


class WriterProcess:
    """A writer in a process of its own, which logs steps to one trial.

    Args:
        config: Settings.
        path: File of its journal.
        trial: Trial that it logs to.
        calls: Number of steps at most; `stop` ends it earlier.
        pause: Pause between steps, seconds.
        claims: Whether it also claims trials with the name "job".
        secures: Number of steps between waits until all events are at least on disk; 0 for no waits.
        patient: Whether an attempt to send lasts up to a minute, so that a stall of the machine causes no resend.
    """

    def __init__(self, config, path, trial, *, calls, pause=0.0, claims=False, secures=0, patient=False):
        self.path = path
        self._stop = CONTEXT.Event()
        arguments = (config, path, trial, calls, pause, claims, secures, patient, self._stop)
        self._process = CONTEXT.Process(target=_run, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def journal(self) -> Journal:
        """Journal so far."""
        return Journal.load(self.path) if self.path.exists() else Journal()

    def stop(self) -> None:
        """Request the process to commit and end."""
        self._stop.set()

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        self._process.kill()
        self._process.join()

    def join(self, seconds: float = 120.0) -> None:
        """Wait for a successful end."""
        self._process.join(seconds)
        assert self._process.exitcode == 0, f"the writer ended with {self._process.exitcode}"


def _run(*arguments):
    asyncio.run(_write(*arguments))


async def _write(config, path, trial, calls, pause, claims, secures, patient, stop):
    if patient:
        sender._ATTEMPT_SECONDS = sender._REQUEST_SECONDS = 60.0
    journal = Journal(path=path)
    async with connected(config) as protocol:
        writer = Writer(protocol, journal)
        # The first call for a trial of another process looks it up in MongoDB, for up to five seconds: not measured.
        await writer.tags(trial, **{f"{journal.writer} writes": True})
        writer.watch = Stopwatch()
        # Claims have a loop and a thread of their own, since the timed calls would otherwise wait for them in the loop.
        claiming = partial(asyncio.run, _claim(config, path.with_suffix(".claims"), stop))
        async with anyio.create_task_group() as tasks:
            if claims:
                tasks.start_soon(anyio.to_thread.run_sync, claiming)
            with writer.watch:
                for i in range(calls):
                    if stop.is_set():
                        break
                    await writer.mixed(trial, i)
                    if secures and i % secures == secures - 1:
                        await writer.secure()
                    if pause:
                        await anyio.sleep(pause)
            stop.set()
        await writer.commit(120)
        writer.note()
    journal.close()


async def _claim(config, path, stop):
    journal = Journal(path=path)
    async with connected(config, timeout=10) as protocol:
        writer = Writer(protocol, journal)
        while not stop.is_set():
            await writer.claim({"name": "job", "status": None})
            await anyio.sleep(0.05)
        await writer.commit(120)
    journal.close()
