"""A hyperparameter search on scikit-learn's handwritten digits, logged with trialstream.

This process creates eight trials. Four worker processes claim them one by one, train a small network for each, and log
the training. One trial has so large a learning rate that it diverges, which ends the trial but not its worker. Progress
bars show the trials meanwhile. At the end a table lists them, and a check compares the logged data with what is read
back.

    trialstream up --detach && eval "$(trialstream env)"
    python examples/digits.py
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
import trialstream as ts
from perceptron import TRAINING_IMAGES, Images, Perceptron, load_images, mini_batches
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

WORKERS = 4
EPOCHS = 20
BATCH_SIZE = 24
STEPS = EPOCHS * TRAINING_IMAGES // BATCH_SIZE

SEARCH = [
    {"learning_rate": 0.01, "hidden": 16},
    {"learning_rate": 0.01, "hidden": 64},
    {"learning_rate": 0.1, "hidden": 16},
    {"learning_rate": 0.1, "hidden": 64},
    {"learning_rate": 3.0, "hidden": 64},  # diverges within some 100 steps
    {"learning_rate": 0.3, "hidden": 16},
    {"learning_rate": 0.3, "hidden": 64},
    {"learning_rate": 0.3, "hidden": 256},
]

# Number of observations by uid of the trial, section ("metrics" or "chronos") and name.
Counts: TypeAlias = Counter[tuple[str, str, str]]


class Mismatch(Exception):
    """The data that was read back differs from the data that was logged."""


def main() -> int:
    """Run the search, print its result as the last line, and return the exit code: 0 if the check succeeded."""
    # The workers share the processors already, so numpy must not start threads; the workers inherit these variables.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    try:
        summary = asyncio.run(search())
    except (Mismatch, BrokenProcessPool, ts.TrialStreamError) as error:
        print(f"demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"demo ok: {summary}")
    return 0


async def search() -> str:
    """Create the trials, run them in workers, print a table, and check the logged data.

    Returns:
        The summary of the check.

    Raises:
        Mismatch: The data that was read back differs from the data that was logged.
    """
    async with ts.connect() as protocol:
        group = await plan(protocol)
        logged = await run_workers(protocol, group)
        trials = await protocol.fetch_trials({"group_id": group.uid}, sort="-metrics.test_accuracy.last")
        Console().print(table(trials))
        return await check(protocol, trials, logged)


async def plan(protocol: ts.Protocol) -> ts.TrialGroup:
    """Create the project, a group for this search, and its trials."""
    project = await protocol.new_project(ts.Project(name="digits", description="Handwritten digits, 8 x 8 pixels"))
    name = f"search of {datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=project.uid))
    assert group is not None, "no two searches begin in the same microsecond"
    for parameters in SEARCH:
        trial = ts.Trial(name="perceptron", parameters=parameters, project_id=project.uid, group_id=group.uid)
        await protocol.new_trial(trial)
    return group


# --- The workers: claim, train, log


def work(worker: int, group_id: str, training: Images, test: Images) -> Counts:
    """Run trials until none is left to claim; return what was logged. This is the main function of a worker."""
    return asyncio.run(run_trials(worker, group_id, training, test))


async def run_trials(worker: int, group_id: str, training: Images, test: Images) -> Counts:
    """Claim and run trials of the group; return what was logged."""
    logged: Counts = Counter()
    async with ts.connect() as protocol:
        async for trial in claim_trials(protocol, group_id):
            await protocol.add_trial_tags(trial, worker=worker)
            await run_trial(Run(protocol, trial, logged), training, test)
        await protocol.commit(level="folded")  # so that the parent process can read all of it
    return logged


async def claim_trials(protocol: ts.Protocol, group_id: str) -> AsyncIterator[ts.Trial]:
    """Claim new trials by starting them; each trial is claimed by one worker."""
    while True:
        try:
            waiting = {"group_id": group_id, "status": ts.Status.CreatedGroup}
            trial = await protocol.fetch_and_update_trial(waiting, "log_trial_start")
        except ts.ItemNotFound:
            return
        yield trial


class Run:
    """Logs the training of one trial, and counts what is logged."""

    def __init__(self, protocol: ts.Protocol, trial: ts.Trial, logged: Counts) -> None:
        self.protocol = protocol
        self.trial = trial
        self._logged = logged

    async def metrics(self, step: int, **values: float) -> None:
        """Log metrics of a training step."""
        await self.protocol.log_trial_metrics(self.trial, step, **values)
        self._logged.update((self.trial.uid, "metrics", name) for name in values)

    @asynccontextmanager
    async def chrono(self, name: str) -> AsyncIterator[None]:
        """Log the duration of the block."""
        await self.protocol.log_trial_chrono_start(self.trial, name, ts.StatAggregator.lazy())
        try:
            yield
        finally:
            await self.protocol.log_trial_chrono_finish(self.trial, name, *sys.exc_info())
            self._logged[self.trial.uid, "chronos", name] += 1

    async def finish(self, *exc_info: Any) -> None:
        """Log the end of the trial, with the exception that ended it if there was one."""
        await self.protocol.log_trial_finish(self.trial, *exc_info)
        self._logged[self.trial.uid, "chronos", "runtime"] += 1


async def run_trial(run: Run, training: Images, test: Images) -> None:
    """Train and log the end of the trial; raise any exception except that of a divergence."""
    try:
        await train(run, training, test)
    except BaseException as error:
        await run.finish(*sys.exc_info())
        if not isinstance(error, FloatingPointError):
            raise
    else:
        await run.finish()


async def train(run: Run, training: Images, test: Images) -> None:
    """Train a network with mini-batches.

    Raises:
        FloatingPointError: The training diverged.
    """
    learning_rate, hidden = run.trial.parameters["learning_rate"], run.trial.parameters["hidden"]
    rng = np.random.default_rng(0)
    network = Perceptron(hidden, rng)
    await run.protocol.log_trial_arguments(run.trial, epochs=EPOCHS, batch_size=BATCH_SIZE)
    await run.protocol.log_trial_metadata(run.trial, weights=network.size, numpy=np.__version__)
    step = 0
    for _ in range(EPOCHS):
        async with run.chrono("epoch"):
            for images in mini_batches(training, BATCH_SIZE, rng):
                step += 1
                async with run.chrono("batch"):
                    loss, accuracy = network.learn(images, learning_rate)
                await run.metrics(step, loss=loss, accuracy=accuracy)
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss} at step {step}")
        await run.metrics(step, test_accuracy=network.accuracy(test))
        await asyncio.sleep(0)  # log calls do not wait, so this is where Ctrl-C can cancel the training


# --- The parent process: start the workers, show their progress, print a table


async def run_workers(protocol: ts.Protocol, group: ts.TrialGroup) -> Counts:
    """Run the trials in worker processes; return what all of them logged."""
    images = load_images()
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        workers = [pool.submit(work, number, group.uid, *images) for number in range(WORKERS)]
        await watch(protocol, group, workers)
    return sum((each.result() for each in workers), Counter())


async def watch(protocol: ts.Protocol, group: ts.TrialGroup, workers: list[Future[Counts]]) -> None:
    """Show the trials until the workers are done: bars on a terminal, else a line for each change of status."""
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(16), MofNCompleteColumn(), TextColumn("{task.fields[how]}"))
    trials = await protocol.fetch_trials({"group_id": group.uid})
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars = {trial.uid: progress.add_task(describe(trial), total=STEPS, how=outcome(trial)) for trial in trials}
        done = False
        while not done:
            done = all(each.done() for each in workers)  # checked before the last fetch, which then shows the end
            statuses = {trial.uid: trial.status for trial in trials}
            trials = await protocol.fetch_trials({"group_id": group.uid})
            for trial in trials:
                steps = observations(trial.metrics.get("loss"))
                progress.update(bars[trial.uid], completed=steps, how=outcome(trial))
                if progress.disable and trial.status != statuses[trial.uid]:
                    print(f"{describe(trial)}  {outcome(trial)}", flush=True)
            await asyncio.sleep(0.25)


def table(trials: list[ts.Trial]) -> Table:
    """Return a table of the trials and their results."""
    rows = Table("rate", "hidden", "worker", "status", "accuracy", "loss", "steps", "ms/step", "seconds", box=None)
    for trial in trials:
        loss, accuracy = trial.metrics.get("loss"), trial.metrics.get("test_accuracy")
        rows.add_row(
            f"{trial.parameters['learning_rate']}",
            f"{trial.parameters['hidden']}",
            f"{trial.tags['worker']}",
            status(trial),
            f"{accuracy.last:.3f}" if accuracy else "",
            f"{loss.last:.4f}" if loss else "",
            f"{observations(loss)}",
            f"{1000 * trial.chronos['batch'].avg:.3f}" if loss else "",
            f"{trial.chronos['runtime'].sum:.1f}",
        )
    return rows


def describe(trial: ts.Trial) -> str:
    """Return the parameters that distinguish the trial."""
    return f"rate {trial.parameters['learning_rate']:<4} hidden {trial.parameters['hidden']:<3}"


def status(trial: ts.Trial) -> str:
    """Return the name of the trial's status."""
    return trial.status.name if trial.status else "waiting"


def outcome(trial: ts.Trial) -> str:
    """Return the accuracy of a completed trial, the error of a failed one, or the status."""
    if trial.status is ts.Status.Completed:
        return f"accuracy {trial.metrics['test_accuracy'].last:.3f}"
    return trial.errors[-1].message if trial.errors else status(trial)


# --- The check: compare the logged data with the data that is read back


async def check(protocol: ts.Protocol, trials: list[ts.Trial], logged: Counts) -> str:
    """Compare what the workers logged with what is read back; return a summary.

    Raises:
        Mismatch: They differ; the message lists the differences.
    """
    folded, history = folded_counts(trials), await history_counts(protocol, trials)
    dead = dead_letters(since=min(trial.created for trial in trials))
    ended = Counter(trial.status for trial in trials)
    completed, failed = ended[ts.Status.Completed], ended[ts.Status.Exception]

    problems = [*differences(logged, folded, "folded"), *differences(metrics_of(logged), history, "in the history")]
    problems += [f"{describe(trial)}: started {trial.starts} times" for trial in trials if trial.starts != 1]
    problems += [f"{describe(trial)}: {trial.lost_events} events lost" for trial in trials if trial.lost_events]
    if completed + failed != len(SEARCH):
        problems.append(f"{completed + failed} of {len(SEARCH)} trials ended")
    if dead:
        problems.append(f"{dead} dead letters")
    if problems:
        raise Mismatch("; ".join(problems))
    return (
        f"{len(trials)} trials ({completed} completed, {failed} failed), "
        f"{metrics_of(logged).total()} points logged, {metrics_of(folded).total()} folded, {dead} dead letters"
    )


def metrics_of(counts: Counts) -> Counts:
    """Return the counts of the metrics only."""
    return Counter({key: n for key, n in counts.items() if key[1] == "metrics"})


def folded_counts(trials: list[ts.Trial]) -> Counts:
    """Return the numbers of observations in the trials' aggregators."""
    return Counter(
        {
            (trial.uid, section, name): observations(aggregator)
            for trial in trials
            for section, aggregators in (("metrics", trial.metrics), ("chronos", trial.chronos))
            for name, aggregator in aggregators.items()
        }
    )


async def history_counts(protocol: ts.Protocol, trials: list[ts.Trial]) -> Counts:
    """Return the lengths of the histories of the metrics."""
    counts: Counts = Counter()
    for trial in trials:
        for name, history in (await protocol.fetch_metrics(trial)).items():
            counts[trial.uid, "metrics", name] = len(history)
    return counts


def observations(aggregator: ts.StatAggregator | None) -> int:
    """Return the number of observations, of which the aggregator counts nan and ±inf separately."""
    return aggregator.count + aggregator.nan + aggregator.inf + aggregator.neginf if aggregator else 0


def differences(logged: Counts, found: Counts, where: str) -> list[str]:
    """Describe each count that is not the same in both."""
    keys = sorted(key for key in logged.keys() | found.keys() if logged[key] != found[key])
    return [f"{' '.join(key)}: {logged[key]} logged, {found[key]} {where}" for key in keys]


def dead_letters(since: datetime) -> int:
    """Return the number of records since then that the consumer could not fold."""
    command = [sys.executable, "-m", "trialstream_console.cli", "dead-letters", "--json"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 (our own)
    return sum(json.loads(line)["time"] >= since.timestamp() * 1000 for line in listed.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
