"""Data-parallel training by four ranks, one of which is killed; all start again and resume from the checkpoint.

    eval "$(trialstream env)"
    python examples/data_parallel.py

Each rank fits a linear model to its own part of the data; after each step the gradients are averaged. All ranks run the
same lines and log to one trial, since they have the same `TRIALSTREAM_RUN_ID`. The main process is the launcher: when a
rank dies, it ends the others and starts all again, as torchrun does.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import uuid
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import trialstream as ts
import trialstream.sync

RANKS, STEPS, FEATURES = 4, 60, 5
CHECKPOINT_STEPS = 20
DEATH = 30  # the step at which rank 2 is killed, in the first attempt


def gradient(weights: np.ndarray, rank: int) -> tuple[np.ndarray, float]:
    """Return the gradient and the loss of a rank's part of the data."""
    rng = np.random.default_rng(rank)
    x = rng.normal(size=(256, FEATURES))
    error = x @ weights - x @ np.arange(FEATURES)
    return 2 * x.T @ error / len(x), float(error @ error / len(x))


def train(rank: int, attempt: int, folder: str, sums: SynchronizedArray, barrier: Barrier) -> None:
    """Train as one rank."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS), "TRIALSTREAM_ATTEMPT": str(attempt)}
    checkpoint = Path(folder) / "weights.npy"
    resume = checkpoint if checkpoint.exists() else None
    gradients = np.frombuffer(sums.get_obj()).reshape(RANKS, FEATURES)
    with ts.track("data parallel", project="examples", parameters={"ranks": RANKS}, resume=resume, capture=False) as t:
        weights = np.load(checkpoint) if resume else np.zeros(FEATURES)
        for _ in t.timed(range(t.step, STEPS), "step"):
            gradients[rank], loss = gradient(weights, rank)
            barrier.wait()
            weights -= 0.05 * gradients.mean(axis=0)
            barrier.wait()
            t.log({"loss": loss}, step=t.step)
            if t.step % CHECKPOINT_STEPS == 0:
                if rank == 0:
                    np.save(checkpoint, weights)
                    t.checkpoint(checkpoint)
                barrier.wait()
            if rank == 2 and t.step == DEATH and attempt == 1:
                t.commit()
                os.kill(os.getpid(), signal.SIGKILL)


def launch(attempt: int, folder: str) -> bool:
    """Run all ranks, and return whether all have ended well; end the others when one dies."""
    context = multiprocessing.get_context("spawn")
    sums, barrier = context.Array("d", RANKS * FEATURES), context.Barrier(RANKS)
    ranks = [context.Process(target=train, args=(rank, attempt, folder, sums, barrier)) for rank in range(RANKS)]
    for each in ranks:
        each.start()
    running = list(ranks)
    while running:
        multiprocessing.connection.wait([each.sentinel for each in running])
        running = [each for each in running if each.is_alive()]
        if any(each.exitcode for each in ranks if not each.is_alive()):
            for each in running:
                each.terminate()
            for each in running:
                each.join()
            return False
    return True


def main() -> int:
    """Launch until an attempt succeeds, and show what the trial has."""
    os.environ["TRIALSTREAM_RUN_ID"] = run = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as folder:
        attempts = next(attempt for attempt in range(1, 4) if launch(attempt, folder))
    with trialstream.sync.connect() as protocol:
        [trial] = protocol.fetch_trials({"name": "data parallel"}, sort="-created", limit=1, latest=True)
        losses = protocol.fetch_metrics(trial, "loss", by="rank")["loss"]
        mean = protocol.fetch_metrics(trial, "loss", reduce="mean")["loss"]
        everything = protocol.fetch_metrics(trial, "loss", attempts=True)["loss"]
    superseded = len(everything) - RANKS * len(mean)
    print(
        f"run {run}: {trial.status} after {attempts} attempts; {len(losses)} ranks of {len(mean)} steps, "
        f"mean loss {mean.values[0]:.3f} to {mean.values[-1]:.6f}; {superseded} rows superseded"
    )
    return 0 if trial.status is ts.Status.Completed else 1


if __name__ == "__main__":
    sys.exit(main())
