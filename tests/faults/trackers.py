"""Tracked runs: processes that use `ts.track` and keep journals, and that `TrackedRun` starts, kills and resumes.

`lines.py` compares what is read with the journals.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import dataclass, field, fields, replace
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import anyio
import trialstream as ts
from anyio.to_thread import run_sync
from journal import Journal, call
from service_support import until
from trialstream.config import Config
from trialstream.pipeline.push import push_spool
from trialstream.spool.finding import abandoned
from trialstream.tracking.handle import read_mark
from writers import COMMIT_SECONDS, CONTEXT, Stopwatch

# Steps between two waits until all rows are safe, and between two checkpoints: a kill leaves rows after its checkpoint.
SECURE_STEPS = 10
CHECKPOINT_STEPS = 30
# A tracker waits for no outcome of its creations: of its project, its group and its trial.
CREATIONS = 3
# The value of a row is its step, plus this for each attempt before: so it shows by which attempt it was logged.
ATTEMPT_VALUE = 10**6


# --- In the process of a tracker


class JournaledTrack(ts.track):
    """`ts.track`, whose writer, start and end are in a journal before they are logged."""

    def __init__(self, journal: Journal, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._journal = journal

    def _make_protocol(self):
        protocol = super()._make_protocol()
        journal, log = self._journal, protocol.log
        start, finish = log.log_trial_start, log.log_trial_finish
        journal.add("writer", protocol.writer)
        for _ in range(CREATIONS):
            journal.add("asks")

        def log_trial_start(trial, *, attempt):
            given = attempt.key, attempt.rank, attempt.world_size, attempt.resume_step
            journal.add("call", *call(trial.uid, "start", *given))
            return start(trial, attempt=attempt)

        def log_trial_finish(trial, kind, error, tb):
            journal.add(
                "call", *call(trial.uid, "finish", isinstance(error, KeyboardInterrupt), kind and kind.__name__)
            )
            return finish(trial, kind, error, tb)

        log.log_trial_start, log.log_trial_finish = log_trial_start, log_trial_finish
        return protocol


@dataclass
class Work:
    """The work of one process of a run, to be passed to it.

    Attributes:
        config: Settings.
        path: File of its journal.
        name: Name of the trial.
        checkpoint: Path of the checkpoint from which it resumes, if there is one.
        attempt: Number of the attempt, from 0.
        rank: Its rank; None outside of a distributed run.
        world_size: Number of ranks.
        pause: Pause between steps, seconds.
        steps: Step at which it ends, unless it is stopped earlier.
    """

    config: Config
    path: Path
    name: str
    checkpoint: Path
    attempt: int
    rank: int | None
    world_size: int
    pause: float
    steps: int

    def environment(self) -> dict[str, str]:
        """Return the variables that a launcher sets."""
        if self.rank is None:
            return {}
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "TRIALSTREAM_RUN_ID": self.name,
            "TRIALSTREAM_ATTEMPT": f"attempt {self.attempt}",
        }


def _train(work: Work, shared: Any) -> None:
    """Track a run until it is stopped.

    Args:
        work: What to do.
        shared: Array of the attempt: whether to stop, and the step up to which the rows of each rank are safe.
    """
    os.environ.update(work.environment())
    journal = Journal(path=work.path)
    mark = Path(f"{work.checkpoint}.trialstream.json")
    settings = {each.name: getattr(work.config, each.name) for each in fields(work.config)}
    resume = work.checkpoint if mark.exists() else None
    of_creation = {"parameters": {"run": work.name}, "tags": ["tracked"], "metadata": {"made": "by a tracker"}}
    tracker = None
    try:
        with JournaledTrack(
            journal, work.name, project="p", group="g", resume=resume, capture=False, **of_creation, **settings
        ) as tracker:
            Training(work, tracker, journal, shared).run()
    finally:
        # All events are in Kafka or on disk when the block is left.
        if tracker is not None and not tracker.is_open and not tracker.health.dropped:
            journal.add("acked", len(journal.calls))
            journal.add("errors", tracker.health.errors)
        journal.close()


class Training:
    """The loop of a training script, with a journal.

    SIGTERM takes effect between two calls, so that the journal has exactly the calls that were made.
    """

    def __init__(self, work: Work, tracker: ts.SyncTracker, journal: Journal, shared: Any) -> None:
        self._work, self._tracker, self._journal, self._shared = work, tracker, journal, shared
        self._signals: list[int] = []
        self._terminate: Any = signal.signal(signal.SIGTERM, lambda number, _: self._signals.append(number))
        self._watch = Stopwatch()

    def run(self) -> None:
        """Log steps until the process is stopped."""
        step, rank = self._tracker.step, self._work.rank or 0
        if self._tracker.resume_step is None and rank == 0:
            self._mark(0)
        with self._watch:
            while not self._stopped() and step < self._work.steps:
                step += 1
                self._log_step(step)
                if step % SECURE_STEPS == 0 and self._secure():
                    self._shared[1 + rank] = step
                    if rank == 0 and step % CHECKPOINT_STEPS == 0 and self._all_have(step):
                        self._mark(step)
                if self._work.pause:
                    time.sleep(self._work.pause)
        self._journal.add("slowest", self._watch.slowest)
        self._journal.add("rss", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def _log_step(self, step: int) -> None:
        uid, tracker = self._tracker.uid, self._tracker
        row = {"loss": float(self._work.attempt * ATTEMPT_VALUE + step)}
        with tracker.chrono("step"):
            self._journal.add("call", *call(uid, "metrics", step, row, _spec(ts.timeseries_aggregator)))
            with self._watch.timing():
                tracker.log(row, step=step)
            self._journal.add("call", *call(uid, "chrono", "step"))

    def _mark(self, step: int) -> None:
        value = {"checkpoint": {"path": str(self._work.checkpoint), "step": step}}
        self._journal.add("call", *call(self._tracker.uid, "metadata", value, _spec(ts.value_aggregator)))
        self._tracker.checkpoint(self._work.checkpoint, step=step)

    def _secure(self) -> bool:
        """Wait until all events are acknowledged or on disk; return whether they are."""
        made = len(self._journal.calls)
        if not self._tracker.commit("spooled", COMMIT_SECONDS):
            return False
        self._journal.add("acked", made)
        if "sent" not in self._journal.notes and self._tracker.health.queued == 0:
            self._journal.add("sent", 1)
        return True

    def _all_have(self, step: int) -> bool:
        """Wait until the rows of all ranks are safe up to a step, as a barrier does; return whether they are."""
        while min(self._shared[1:]) < step:
            if self._stopped():
                return False
            time.sleep(0.005)
        return True

    def _stopped(self) -> bool:
        if self._signals:
            self._terminate(self._signals[0], None)  # raises
        return bool(self._shared[0])


def _spec(aggregator: Any) -> list[Any]:
    return [aggregator.kind, aggregator.argument]


# --- Runs


@dataclass
class Life:
    """One process of a run.

    Attributes:
        attempt: Number of its attempt, from 0.
        rank: Its rank; 0 outside of a distributed run.
        path: File of its journal.
        process: The process.
    """

    attempt: int
    rank: int
    path: Path
    process: Any

    @property
    def journal(self) -> Journal:
        """Journal so far."""
        return Journal.load(self.path) if self.path.exists() else Journal()


@dataclass
class TrackedRun:
    """A trial that is tracked by one process, or by the ranks of a distributed run, from attempt to attempt.

    Attributes:
        config: Settings.
        folder: New folder, for journals, spools and the checkpoint.
        name: Name of the trial; unique on its log.
        ranks: Number of ranks; None for a process outside of a distributed run.
        pause: Pause between steps, seconds.
        steps: Step at which the processes end, unless they are stopped earlier.
        lives: All processes so far.
    """

    config: Config
    folder: Path
    name: str
    ranks: int | None = None
    pause: float = 0.005
    steps: int = 10**9
    lives: list[Life] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.config = replace(self.config, spool_dir=str(self.folder / "spool"))
        self._attempts = 0
        self._shared: Any = None

    @property
    def running(self) -> list[Life]:
        """The processes that run."""
        return [each for each in self.lives if each.process.is_alive()]

    @property
    def latest(self) -> list[Life]:
        """The processes of the latest attempt."""
        return [each for each in self.lives if each.attempt == self._attempts - 1]

    @property
    def checkpoint_step(self) -> int | None:
        """Step of the latest checkpoint; None before the first."""
        mark = self.folder / "model.pt.trialstream.json"
        return read_mark(self.folder / "model.pt").step if mark.exists() else None

    @property
    def journals(self) -> list[Journal]:
        """Journals of all processes that made a protocol."""
        return [journal for each in self.lives if (journal := each.journal).writer]

    def start(self) -> None:
        """Start all processes of a new attempt."""
        size = self.ranks or 1
        self._shared = RawArray("q", 1 + size)
        for rank in range(size):
            path = self.folder / f"{self._attempts}.{rank}.journal"
            given = None if self.ranks is None else rank
            checkpoint = self.folder / "model.pt"
            work = Work(self.config, path, self.name, checkpoint, self._attempts, given, size, self.pause, self.steps)
            process = CONTEXT.Process(target=_train, args=(work, self._shared), daemon=True)
            process.start()
            self.lives.append(Life(self._attempts, rank, path, process))
        self._attempts += 1

    async def begin(self) -> None:
        """Start the first attempt, and wait for its first checkpoint: without one, a new attempt rewinds nothing."""
        self.start()
        await until(lambda: self.checkpoint_step is not None, 60)

    async def grow(self, steps: int = CHECKPOINT_STEPS, seconds: float = 60.0) -> None:
        """Wait until the checkpoint is a number of steps later."""
        before = self.checkpoint_step or 0
        await until(lambda: (self.checkpoint_step or 0) >= before + steps, seconds)

    def kill(self, rank: int | None = None) -> None:
        """Kill one rank, or all that run (SIGKILL)."""
        for each in self.running:
            if rank in (None, each.rank):
                each.process.kill()
                each.process.join()

    def terminate(self, seconds: float = 60.0) -> None:
        """End all that run with SIGTERM, as a launcher does after the death of a rank."""
        ending = self.running
        for each in ending:
            each.process.terminate()
        for each in ending:
            each.process.join(seconds)
            assert each.process.exitcode in (-signal.SIGTERM, 128 + signal.SIGTERM), each

    async def push(self) -> None:
        """Push the spools of all processes that have ended, and wait until Kafka has them."""
        while folders := await run_sync(abandoned, self.config.spools):
            for each in folders:
                try:
                    await push_spool(self.config, each, lambda _: None)
                except ts.KafkaUnavailable:
                    await anyio.sleep(0.5)

    async def resume(self, *, late: bool = False) -> None:
        """Start the next attempt from the latest checkpoint, after the end of all processes of this one.

        Args:
            late: Whether to push the spools of the ended processes afterwards, if their starts are in the log.
        """
        await run_sync(self.kill)
        if not (late and all("sent" in each.journal.notes for each in self.latest)):
            await self.push()
        await run_sync(self.start)
        await self.push()

    async def finish(self) -> None:
        """Let the run end in order, after a new attempt if a process has died; all its events are then in Kafka."""
        if len(self.running) < (self.ranks or 1):
            await self.resume()
        self._shared[0] = 1
        for each in self.running:
            await run_sync(each.process.join, 120)
        codes = {each.rank: each.process.exitcode for each in self.latest}
        assert set(codes.values()) == {0}, f"run {self.name!r}: exit codes by rank: {codes}"
        await self.push()
