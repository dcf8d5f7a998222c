"""Logs sample trials of varied kinds to the servers of the environment: for tests of the page, and to work on it.

    eval "$(trialstream env)"
    python tests/browser/sample.py --trials 40 --live 600 &
    trialstream dashboard

The same seed logs the same values. The kinds: seeds of a search in groups, ranks that resume from a checkpoint, NaN and
infinities, an exception with its traceback, open and failed chronos, captured output, notes, tags, hostile and long
names, text steps, values of every type, and one trial that runs and logs rows until `--live` seconds are over.
"""

from __future__ import annotations

import argparse
import math
import random
import time

import trialstream as ts
import trialstream.sync
from trialstream.sync import SyncProtocol

HOSTILE = '<script>alert("x")</script> \u202egnp.exe & ' + "long " * 100
SEEDS = 5


def main() -> None:
    """Log the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="trials of the search")
    parser.add_argument("--rows", type=int, default=200, help="rows of each of these")
    parser.add_argument("--live", type=float, default=0.0, help="seconds for which one trial runs")
    parser.add_argument("--rate", type=float, default=10.0, help="rows per second of that trial")
    options = parser.parse_args()
    random.seed(1)
    with trialstream.sync.connect() as protocol:
        log_search(protocol, options.trials, options.rows)
        log_kinds(protocol)
        log_ranks()
        log_failures(protocol)
        protocol.commit("folded")
    log_output()
    if options.live:
        log_live(options.live, options.rate)


def log_search(protocol: SyncProtocol, count: int, rows: int) -> None:
    """Log a search: `SEEDS` trials for each learning rate, in one group."""
    project = ts.Project(name="vision", description="Sample trials of a search.")
    group = ts.TrialGroup(name="search", project_id=project.uid, description="Adam and SGD, five seeds each.")
    protocol.new_project(project)
    protocol.new_trial_group(group)
    for i in range(count):
        setting, seed = divmod(i, SEEDS)
        lr = 10.0 ** -(1 + setting % 4)
        parameters = {
            "lr": lr,
            "optimizer": ("adam", "sgd")[setting % 2],
            "seed": seed,
            "layers": [64, 32, 16][: 1 + setting % 3],
            "model": {"name": "mlp", "dropout": 0.1 * (setting % 3)},
        }
        trial = protocol.new_trial(
            ts.Trial(
                name=f"mlp-{i:03}",
                project_id=project.uid,
                group_id=group.uid,
                parameters=parameters,
                tags={"seed": seed},
            ),
            auto_increment=True,
        )
        assert trial is not None
        protocol.log_trial_start(trial)
        level = 0.1 + 0.05 * abs(math.log10(lr) + 2) + 0.01 * seed
        for step in range(rows):
            noise = random.gauss(0.0, 0.02)
            loss = level + math.exp(-step * lr) + noise
            values = {"train/loss": loss, "train/accuracy": 1 - loss / 3, "lr": lr * 0.99**step}
            best = ts.TimeSeriesAggregator.lazy(best="min")
            protocol.log_trial_metrics(trial, step=step, **values)
            if step % 10 == 0:
                protocol.log_trial_metrics(trial, step=step, aggregator=best, **{"validation/loss": loss + 0.05})
        protocol.log_trial_finish(trial)


def log_kinds(protocol: SyncProtocol) -> None:
    """Log values of every type, hostile and long names, text steps, and values that are not finite."""
    values = {
        "none": None,
        "flag": True,
        "int": 3,
        "huge": 2**63 - 1,
        "float": 0.1,
        "nan": math.nan,
        "inf": math.inf,
        "text": HOSTILE,
        "bytes": bytes(range(256)) * 8,
        "list": [1, "two", [3.0, None]],
        "dict": {"a": {"b": 1}, "$float": "a key of a user", "dotted.key": 2},
        HOSTILE[:60]: "hostile key",
    }
    trial = protocol.new_trial(
        ts.Trial(name=HOSTILE[:400], parameters=values, description=HOSTILE, tags={"kind": "values"}),
        auto_increment=True,
    )
    assert trial is not None
    protocol.log_trial_start(trial)
    protocol.log_trial_metadata(trial, **values)
    for step in range(300):
        special = {50: math.nan, 51: math.nan, 120: math.inf, 121: -math.inf}.get(step, math.sin(step / 20))
        protocol.log_trial_metrics(trial, step=step, wave=special, **{HOSTILE[:60]: step})
        protocol.log_trial_metrics(trial, step=f"epoch-{step:03}", by_name=step**0.5)
    protocol.log_trial_metrics(trial, step=0, only_nan=math.nan)
    protocol.log_trial_finish(trial)
    protocol.new_trial(ts.Trial(name="planned, never started"), auto_increment=True)


def log_ranks() -> None:
    """Log a trial of four ranks: the first attempt loses a rank, the second resumes from step 60."""
    ranks, trial = 4, None
    for attempt, (first, last) in enumerate(((0, 90), (60, 120)), start=1):
        protocols = [trialstream.sync.connect() for _ in range(ranks)]
        for rank, protocol in enumerate(protocols):
            protocol.open()
            if trial is None:
                trial = protocol.new_trial(ts.Trial(name="data parallel", tags={"kind": "ranks"}), auto_increment=True)
                assert trial is not None
            place = ts.Attempt(
                f"job-{attempt}",
                rank=rank,
                world_size=ranks,
                host=f"node-{rank // 2}",
                resume_step=60 if attempt == 2 else None,
                resumes="job-1" if attempt == 2 else None,
            )
            protocol.log_trial_start(trial, attempt=place)
        assert trial is not None
        for step in range(first, last):
            for rank, protocol in enumerate(protocols):
                protocol.log_trial_metrics(trial, step=step, loss=math.exp(-step / 40) * (1 + 0.1 * rank))
                if step % 10 == 0:
                    protocol.log_trial_chrono_start(trial, "step", aggregator=ts.TimeSeriesAggregator.lazy())
                    protocol.log_trial_chrono_finish(trial, "step")
        for rank, protocol in enumerate(protocols):
            if attempt == 1 and rank == 2:
                error = RuntimeError("CUDA error: device-side assert triggered")
                protocol.log_trial_finish(trial, type(error), error, None)
            else:
                protocol.log_trial_finish(trial)
            protocol.close()


def log_failures(protocol: SyncProtocol) -> None:
    """Log a trial that failed with a traceback and an open chrono, and one with a status of its own."""

    def fail(depth: int) -> None:
        if not depth:
            raise ValueError(f"expected a positive loss, got -1 {HOSTILE[:40]}")
        fail(depth - 1)

    failed = protocol.new_trial(ts.Trial(name="failed", project_id="vision"), auto_increment=True)
    assert failed is not None
    protocol.log_trial_start(failed)
    protocol.log_trial_metrics(failed, step=1, loss=-1.0)
    try:
        protocol.log_trial_chrono_start(failed, "epoch")
        fail(5)
    except ValueError as error:
        protocol.log_trial_chrono_finish(failed, "epoch", type(error), error, error.__traceback__)
        protocol.log_trial_finish(failed, type(error), error, error.__traceback__)
    for name in ("load", "epoch", "validate"):
        protocol.log_trial_chrono_start(failed, name)
        if name != "validate":
            protocol.log_trial_chrono_finish(failed, name)
    custom = protocol.new_trial(ts.Trial(name="diverged", project_id="vision"), auto_increment=True)
    assert custom is not None
    protocol.set_trial_status(custom, ts.CustomStatus("Diverged", 250))


def log_output() -> None:
    """Log a trial with captured output and notes."""
    with ts.track("with output", project="vision", capture=["stdout", "stderr"], tags=["output"]) as t:
        for i in range(50):
            print(f"epoch {i}: loss {1 / (i + 1):.3f}")
            t.log({"loss": 1 / (i + 1)}, step=i)
        t.note("The learning rate was too high before.")


def log_live(seconds: float, rate: float) -> None:
    """Log rows of a running trial."""
    with ts.track("live", project="vision", capture=["stdout"]) as t:
        print(f"live trial {t.uid}", flush=True)
        start = time.monotonic()
        step = 0
        while (elapsed := time.monotonic() - start) < seconds:
            while step < elapsed * rate:
                t.log({"loss": math.exp(-step / 500) + random.gauss(0, 0.01), "step_time": random.random()}, step=step)
                step += 1
            time.sleep(min(0.05, 1 / rate))


if __name__ == "__main__":
    main()
