"""An upgrade: the code of an earlier commit writes a log and folds it, and this version goes on.

`test_released_log.py` writes single events by the released schemas, and needs no history of the repository.
"""

from __future__ import annotations

import io
import math
import os
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.to_thread import run_sync
from contract import connected
from service_support import caught_up, cli
from trialstream_schemas.storage.documents import trial_to_document

# The last commit before sums were added up from left to right: its consumer adds up exact sums, and has no workers.
COMMIT = "ec43b184b36d769ae6898a0254a91adf968a448f"
ROOT = Path(__file__).parents[2]
ROWS, TRIALS = 300, 3
# Logs every kind of row to the same trials as before; the argument is the number of the run.
WRITER = f"""
import asyncio, math, random, sys
import trialstream as ts

async def main(run):
    draw = random.Random(run)
    async with ts.connect() as protocol:
        trials = [ts.Trial(name="t", parameters={{"n": n}}) for n in range({TRIALS})]
        trials = [(await protocol.get_trial(each) or [await protocol.new_trial(each)])[0] for each in trials]
        if run != 1:  # a consumer runs
            own = await protocol.new_trial(ts.Trial(name="own", parameters={{"run": run}}))
            claimed = await protocol.fetch_and_update_trial({{"name": "own"}}, "add_trial_tags", run=run)
            assert own is not None and claimed.tags["run"] == run
        for trial in trials:
            await protocol.log_trial_start(trial)
            for row in range({ROWS}):
                await protocol.log_trial_metrics(trial, step=row + 1000 * run, loss=draw.gauss(0, 1), acc=draw.random())
                if row % 3 == 0:
                    grad = draw.gauss(0, 1e6) if row % 50 else math.nan
                    await protocol.log_trial_metrics(trial, row, ts.StatAggregator.lazy(), grad=grad)
                if row % 100 == 0:
                    await protocol.log_trial_chrono_start(trial, "epoch")
                    await protocol.log_trial_chrono_finish(trial, "epoch")
                    await protocol.log_trial_metadata(trial, row=row)
                    await protocol.add_trial_tags(trial, **{{f"run{{run}}": True}})
            await protocol.log_trial_finish(trial)
        await protocol.commit()

asyncio.run(main(int(sys.argv[1])))
"""
EARLIER_CONSUMER = "from trialstream_consumer.cli import main; main()"


@pytest.fixture
def earlier(tmp_path):
    """The folders of the packages at the earlier commit, as a path for Python."""
    packages = ("schemas", "producer", "consumer")
    done = subprocess.run(["git", "archive", COMMIT, *packages], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no code of commit {COMMIT[:7]}: {done.stderr.decode().strip()}; a clone with its history has it")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(tmp_path / "earlier", filter="data")
    return os.pathsep.join(str(tmp_path / "earlier" / each) for each in packages)


def environment(config, path):
    """Return the environment of a process that imports the packages at a path; None for those of this version."""
    given = {f"TRIALSTREAM_{each.upper()}": str(getattr(config, each)) for each in ("kafka", "mongo", "prefix")}
    return os.environ | given | ({"PYTHONPATH": path} if path else {})


def write(config, run, path=None):
    """Log a run, with the packages at a path."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(run)],
        env=environment(config, path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@contextmanager
def consuming(config, path, log):
    """Run a consumer of the earlier commit as long as the block runs."""
    command = [sys.executable, "-c", EARLIER_CONSUMER, "consume"]
    with log.open("w") as output, subprocess.Popen(command, env=environment(config, path), stderr=output) as service:
        try:
            yield
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(30)


async def view(config):
    """Return the documents of the trials, and what their histories hold."""
    async with connected(config) as protocol:
        trials = await protocol.fetch_trials({"name": "t"}, latest=True)
        histories = await protocol.fetch_histories(trials)
    rows = {
        uid: {
            name: [each.tolist() for each in (h.steps, h.times, h.writers, h.values, h.rows)]
            for name, h in found.items()
        }
        for uid, found in histories.items()
    }
    return [trial_to_document(each) for each in trials], rows


def alike(one, other):
    """Whether two parts of documents are equal, but for the last bits of their doubles."""
    if isinstance(one, dict):
        return [*one] == [*other] and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_upgrade_goes_on_with_the_log_and_the_projection(config, consumer, earlier, tmp_path):
    """Nothing is lost, writers of both versions log on, and verify names the documents that a rebuild changes."""
    with consuming(config, earlier, tmp_path / "earlier.log"):
        await run_sync(write, config, 0, earlier)
        await caught_up(config)
    await run_sync(write, config, 1, earlier)  # folded by this version
    await run_sync(consumer, config)
    await run_sync(write, config, 2)
    await run_sync(write, config, 3, earlier)
    documents, rows = await view(config)

    steps = [row + 1000 * run for run in range(4) for row in range(ROWS)]
    for trial in documents:
        assert trial["lost_events"] == 0
        assert (trial["starts"], trial["status"]["name"]) == (4, "Completed")
        assert trial["tags"] == {f"run{run}": True for run in range(4)}
        assert trial["metadata"] == {"row": 200}
        assert trial["chronos"]["runtime"]["count"] == 4
        assert [trial["metrics"]["grad"][each] for each in ("count", "nan")] == [4 * 98, 4 * 2]
        assert rows[trial["_id"]]["loss"][0] == rows[trial["_id"]]["acc"][0] == steps
        values = rows[trial["_id"]]["loss"][3]
        assert trial["metrics"]["loss"]["count"] == len(values) == 4 * ROWS
        assert math.isclose(trial["metrics"]["loss"]["sum"], math.fsum(values), rel_tol=1e-9)

    compared = await run_sync(lambda: cli(config, "verify"))
    rebuilt = await run_sync(lambda: cli(config, "rebuild"))
    again = await run_sync(lambda: cli(config, "verify"))
    afterwards, rows_afterwards = await view(config)

    assert compared.returncode == 1, compared.stderr
    assert "outcomes" in compared.stdout  # those of the earlier consumer have another id
    assert rebuilt.returncode == again.returncode == 0, rebuilt.stderr + again.stderr
    assert rows_afterwards == rows
    assert alike(afterwards, documents)
    listed = [trial["_id"] in compared.stdout for trial in documents]
    assert all(listed) or (not any(listed) and afterwards == documents)
