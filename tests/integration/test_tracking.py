"""The tracker on the real servers: what training code logs is in the documents, however the code runs and ends."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from contextlib import suppress

import numpy as np
import pytest
import trialstream as ts
import trialstream.sync
from contract import connected
from trialstream.tracking import resuming

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch, tmp_path):
    """Run each test in a folder of its own, and without the variables of a launcher."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "PMI_", "TORCHELASTIC_", "TRIALSTREAM_RUN", "TRIALSTREAM_HANDLE")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def read(uid: str) -> tuple[ts.Trial, dict[str, ts.MetricHistory]]:
    """Read a trial, by its uid or by that of its creation, with the histories of its metrics."""
    with trialstream.sync.connect() as protocol:
        [trial] = protocol.fetch_trials({"hash": uid[: uid.index("~")]} if "~" in uid else {"uid": uid}, latest=True)
        return trial, protocol.fetch_histories([trial])[trial.uid]


def run_script(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a training script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- Blocks


def test_a_plain_block(name):
    """Three lines create project, group and trial; the trial ends with the block."""
    with ts.track(name, project=f"p {name}", group="g", parameters={"lr": 1e-3}, tags=["base"], capture=False) as t:
        for epoch in range(2):
            with t.chrono("epoch"):
                for batch in t.timed([np.zeros((8, 2))] * 3, "batch"):
                    t.log({"train": {"loss": 1 / t.step, "rows": batch.shape[0]}}, step=t.step)
            t.log({"val/acc": epoch / 2}, step=epoch)
        t.log_arguments(depth=2)
        t.log_metadata({"seeds": {1, 2}})
        t.tag("good", dataset="mnist")
        t.note("looks fine")
        t.summary["accuracy"] = 0.5
        assert t.commit()
        assert t.health.errors == 0
    trial, history = read(t.uid)

    assert trial.status is ts.Status.Completed
    assert (trial.project_id, trial.parameters) == (f"p {name}", {"lr": 1e-3, "depth": 2})
    assert trial.tags == {"base": True, "good": True, "dataset": "mnist"}
    assert (trial.metadata["seeds"], trial.metadata["summary/accuracy"]) == ([1, 2], 0.5)
    assert trial.metadata["notes"].values == ["looks fine"]
    assert history["train/loss"].steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert history["val/acc"].steps.tolist() == [0, 1]
    assert {name: each.count for name, each in trial.chronos.items() if name != "runtime"} == {
        "epoch": 1,  # without the first
        "batch": 5,
        "batch/load": 5,
    }
    assert not trial.open_chronos


async def test_an_async_block(name):
    """In async code the same calls are plain; only what waits is awaited."""

    async def batches():
        for i in range(3):
            await asyncio.sleep(0)
            yield i

    async with ts.track(name, capture=["event_loop"]) as t:
        async with t.chrono("epoch"):
            async for batch in t.timed(batches(), "batch"):
                t.log({"loss": batch}, step=t.step)
        await asyncio.sleep(1.2)
        assert await t.commit("folded")
    trial, history = await asyncio.to_thread(read, t.uid)

    assert trial.status is ts.Status.Completed
    assert history["loss"].values.tolist() == [0, 1, 2]
    assert trial.metrics["event_loop/tasks"].last >= 1
    assert trial.metrics["event_loop/lag"].min >= 0


def test_without_a_block(name):
    """`start` and `finish` do what a block does, in a notebook with a running event loop too."""

    async def cell():
        t = ts.track(name, capture=False).start()
        t.log(loss=1.0)
        assert t.commit()
        t.finish()
        t.finish()  # does nothing
        return t.uid

    trial, history = read(asyncio.run(cell()))

    assert (trial.status, trial.starts) == (ts.Status.Completed, 1)
    assert history["loss"].values.tolist() == [1.0]


# --- Ends


def test_an_exception_ends_the_trial(name):
    """The exception of the block is that of the trial, with its traceback, and goes on."""
    with pytest.raises(ZeroDivisionError), ts.track(name, capture=["stdout"]) as t:
        sys.stdout.write("before the error\n")
        _ = 1 / 0
    trial, _ = read(t.uid)

    assert trial.status is ts.Status.Exception
    assert trial.errors[0].type == "ZeroDivisionError"
    assert "1 / 0" in trial.errors[0].traceback
    assert "before the error" in "".join(trial.metadata["output/stdout"].values)


def test_cancellation_and_ctrl_c_interrupt_the_trial(name):
    """A trial that is cancelled is interrupted, and so is one that gets Ctrl-C."""
    with pytest.raises(KeyboardInterrupt), ts.track(name, capture=False) as t:
        raise KeyboardInterrupt
    trial, _ = read(t.uid)

    assert trial.status is ts.Status.Interrupted


SIGTERM = """
    import os, signal, time
    import trialstream as ts
    {setup}
    with ts.track({name!r}, capture=False) as t:
        print(t.uid, flush=True)
        t.log(loss=1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
"""
ASYNC_SIGTERM = """
    import asyncio, os, signal
    import trialstream as ts
    async def main():
        async with ts.track({name!r}, capture=False) as t:
            print(t.uid, flush=True)
            t.log(loss=1.0)
            asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.sleep(30)
    asyncio.run(main())
"""


@pytest.mark.parametrize("code", [SIGTERM, ASYNC_SIGTERM], ids=["plain", "async"])
def test_sigterm_interrupts_the_trial(name, code):
    """A process that is told to end logs that, with the name of the signal, and has the exit code of the signal."""
    ended = run_script(code.format(name=name, setup=""))
    trial, history = read(ended.stdout.strip())

    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert trial.status is ts.Status.Interrupted
    assert [each.message for each in trial.errors] == ["SIGTERM"]
    assert len(history["loss"]) == 1


def test_the_users_handler_of_sigterm_stays(name):
    """A program with a handler of its own for SIGTERM keeps it."""
    setup = "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))"
    ended = run_script(SIGTERM.format(name=name, setup=setup))

    assert ended.returncode == 7, ended.stderr


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", ts.Status.Completed),
        ("raise ValueError('x')", ts.Status.Exception),
        ("raise SystemExit(0)", ts.Status.Completed),
    ],
    ids=["the end", "an exception", "exit 0"],
)
def test_a_trial_without_a_block_ends_with_the_process(name, end, status):
    """A script that never calls `finish` leaves no trial that runs for ever."""
    ended = run_script(f"import trialstream as ts\nt = ts.track({name!r}, capture=False).start()\nprint(t.uid)\n{end}")
    trial, _ = read(ended.stdout.strip())

    assert trial.status is status, ended.stderr


def test_nothing_raises_into_training(name, caplog):
    """Wrong values, steps, names and calls after the end are counted and logged, and the rest is logged."""
    with caplog.at_level(logging.WARNING, "trialstream"), ts.track(name, capture=False) as t:
        t.log({"loss": 0.5, "text": "no number", "array": np.zeros(3)}, step=1)
        t.log({"loss": 0.25}, step=[2])
        t.log(5)
        t.log({"loss": 1.0}, aggregator="mean")
        t.log({"loss": 1.0}, on="rank1")
        t.status(object())
        t.define("*", best="maximum")
        t.checkpoint("x", step="last")
        with t.chrono("runtime"):
            pass
        with t.chrono("sync", synchronize=lambda: 1 / 0):
            pass
        for _ in t.timed([1], "loop", rows_of=lambda _: 1 / 0):
            pass
    t.log(loss=2.0)
    trial, history = read(t.uid)

    assert history["loss"].values.tolist() == [0.5, 0.25]
    assert history["loss"].steps.tolist() == [1, None]
    assert trial.chronos["sync"].count == 0  # the first one is left out of the statistics
    assert trial.status is ts.Status.Completed
    assert t.health.errors >= 12
    assert len(caplog.records) <= t.health.errors


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"parameters": {"lr": 0.1}, "tags": "base"}, ts.InvalidType),
        ({"capture": ["screen"]}, ts.InvalidValue),
        ({"capture": "stdout"}, ts.InvalidType),
        ({"kafka": "no server"}, ts.ConfigError),
        ({"read_only": True}, ts.InvalidValue),
        ({"resume": "nowhere.pt"}, ts.ItemNotFound),
        ({"resume": "0123456789abcdef_7"}, ts.ItemNotFound),
    ],
    ids=["tags", "kind of capture", "text as capture", "servers", "read-only", "checkpoint", "uid"],
)
def test_wrong_arguments_are_refused_before_training(name, arguments, error):
    """An argument that makes no sense raises before anything is created, and names itself."""
    with pytest.raises(error, match=next(reversed(arguments)).replace("kafka", "kafka").replace("read_only", "track")):
        ts.track(name, **arguments).start()


# --- Contexts


def test_the_trial_of_the_context(name):
    """Calls of the module go to the trial of their block, in threads too, and do nothing without one."""
    assert ts.current() is None
    ts.log(loss=1.0)  # nothing
    with ts.chrono("nothing"):
        pass
    with ts.track(name, capture=False) as outer:
        with ts.track(f"{name} inner", capture=False) as inner:
            assert ts.current() is inner
            ts.log(loss=2.0)
            ts.tag("inner")
        assert ts.current() is outer
        thread = threading.Thread(target=lambda: ts.log(loss=3.0))
        thread.start()
        thread.join()
        with ts.chrono("block"):
            ts.note("outer")
        ts.log_metadata(a=1)
        ts.log_arguments(b=2)
    assert ts.current() is None
    trial, history = read(outer.uid)

    assert history["loss"].values.tolist() == [3.0]
    assert (trial.metadata["a"], trial.parameters["b"]) == (1, 2)
    assert read(inner.uid)[1]["loss"].values.tolist() == [2.0]


async def test_tasks_do_not_mix(name):
    """Trackers and chronos of concurrent tasks are each their own."""

    @ts.instrument
    async def work(i):
        with ts.chrono("inside"):
            await asyncio.sleep(0.01)
        ts.log({"i": i})

    async def run(number):
        async with ts.track(f"{name} {number}", capture=False) as t:
            await asyncio.gather(*(work(number) for _ in range(5)))
        return t.uid

    uids = await asyncio.gather(*(run(number) for number in range(3)))
    for number, uid in enumerate(uids):
        trial, history = await asyncio.to_thread(read, uid)

        assert history["i"].values.tolist() == [number] * 5
        work_name = "test_tasks_do_not_mix.<locals>.work"
        assert trial.chronos[work_name].count == trial.chronos["inside"].count == 4  # without the first
        assert trial.metrics[f"{work_name}/in_flight"].max >= 2


def test_instrumented_functions_of_all_kinds(name):
    """Durations and exceptions of functions and generators are chronos; without a trial the functions just run."""

    @ts.instrument(name="half")
    def half(x):
        return 1 / x

    @ts.instrument(name="count")
    def count():
        yield from range(3)

    assert half(2) == 0.5
    with ts.track(name, capture=False) as t:
        for x in (1, 2, 0):
            with suppress(ZeroDivisionError):
                half(x)
        assert list(count()) == [0, 1, 2]
        for _ in count():
            break
    trial, _ = read(t.uid)

    assert trial.chronos["half"].count == 2
    assert trial.failed_chronos == {"half": 1}
    assert trial.metrics["half/in_flight"].max == 1


# --- Definitions, checkpoints, resumes


def test_defined_metrics(name):
    """`define` gives metrics the step of another one, their best value, or another aggregator."""
    with ts.track(name, capture=False) as t:
        t.define("val/*", step="epoch", best="max")
        t.define("norm", aggregator=ts.StatAggregator.lazy(0))
        for epoch, acc in enumerate([0.5, 0.9, 0.7]):
            t.log({"val/acc": acc, "epoch": epoch, "norm": 1.0})
    trial, history = read(t.uid)

    assert history["val/acc"].steps.tolist() == [0, 1, 2]
    assert (trial.metrics["val/acc"].best, trial.metrics["val/acc"].best_step) == (0.9, 1)
    assert "norm" not in history


@pytest.mark.parametrize("how", ["path", "auto", "uid", "uid of the tracker"])
def test_a_trial_is_resumed_from_its_checkpoint(name, how, tmp_path):
    """Rows after the checkpoint are superseded by those of the resumed attempt; none is deleted."""
    path = tmp_path / "model.pt"
    with pytest.raises(ZeroDivisionError), ts.track(name, parameters={"lr": 0.1}, capture=False) as first:
        for _ in first.timed(range(5), "batch"):
            first.log({"loss": first.step / 2}, step=first.step)
            if first.step == 3:
                first.checkpoint(path)
        _ = 1 / 0
    uid = read(first.uid)[0].uid
    resume = {"path": path, "auto": "auto", "uid": uid, "uid of the tracker": first.uid}[how]
    with ts.track(name, parameters={"lr": 0.1}, resume=resume, capture=False) as t:
        assert (t.step, t.resume_step, t.resume_path) == (3, 3, str(path))
        for _ in t.timed(range(3), "batch"):
            t.log({"loss": -t.step}, step=t.step)
    trial, history = read(uid)
    with trialstream.sync.connect() as protocol:
        everything = protocol.fetch_metrics(trial, "loss", attempts=True)["loss"]

    assert (trial.status, trial.starts, len(trial.attempts)) == (ts.Status.Completed, 2, 2)
    assert history["loss"].steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert history["loss"].values.tolist() == [0.5, 1.0, 1.5, -4.0, -5.0, -6.0]
    assert everything.steps.tolist() == [1, 2, 3, 4, 5, 4, 5, 6]


def test_auto_creates_a_trial_if_none_is_left_to_resume(name):
    """`auto` begins a new revision after a completed one."""
    with ts.track(name, resume="auto", capture=False) as first:
        pass
    with ts.track(name, resume="auto", capture=False) as second:
        pass

    assert first.uid != second.uid


def test_auto_leaves_a_trial_that_another_process_runs(name, caplog):
    """A trial whose events go on is not resumed, and `auto` begins a new revision."""
    with ts.track(name, capture=False) as running:
        running.commit("folded")
        going = threading.Timer(1.0, running.log, [{"loss": 1.0}])  # while the other one looks
        going.start()
        with ts.track(name, resume="auto", capture=False) as other:
            pass
        going.join()

    assert other.uid != running.uid
    assert "another process runs it" in caplog.text


def test_auto_resumes_a_trial_that_was_running_a_moment_ago(name, monkeypatch):
    """A trial without a heartbeat is that of a process that died, whatever its status."""
    monkeypatch.setattr(resuming, "_HEARTBEAT_SECONDS", 1.0)
    with trialstream.sync.connect() as protocol:
        trial = protocol.new_trial(ts.Trial(name=name), auto_increment=True)
        protocol.log_trial_start(trial)
        protocol.commit("folded")
    with ts.track(name, resume="auto", capture=False) as t:
        pass

    assert t.uid == trial.uid


# --- Ranks and other processes

RANK = """
    import sys
    import trialstream as ts
    with ts.track({name!r}, parameters={{"lr": 0.1}}, capture=False) as t:
        for _ in t.timed(range(3), "batch"):
            t.log({{"loss": t.rank}}, step=t.step)
            t.log({{"only": 1.0}}, step=t.step, on="rank0")
        if t.rank == {failing}:
            raise ValueError("rank failed")
"""


def ranks(name: str, failing: int = -1, **environ: str) -> None:
    """Run three ranks side by side, as a launcher does."""
    code = textwrap.dedent(RANK.format(name=name, failing=failing))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "3", "TRIALSTREAM_RUN_ID": name, **environ},
            stderr=subprocess.DEVNULL,
        )
        for rank in range(3)
    ]
    for each in running:
        each.wait(60)


def test_all_ranks_are_one_trial(name):
    """Three ranks that run the same line make one trial, which ends when the last one has ended."""
    ranks(name)
    with trialstream.sync.connect() as protocol:
        [trial] = protocol.fetch_trials({"name": name}, latest=True)
        by_rank = protocol.fetch_metrics(trial, "loss", by="rank")["loss"]
        mean = protocol.fetch_metrics(trial, "loss", reduce="mean")["loss"]
        slow = protocol.fetch_metrics(trial, "batch", section="chronos", by="rank")["batch"]
        only = protocol.fetch_metrics(trial, "only")["only"]

    assert (trial.status, trial.starts) == (ts.Status.Completed, 1)
    assert {rank: each.status for rank, each in trial.ranks.items()} == dict.fromkeys(range(3), ts.Status.Completed)
    assert {rank: each.values.tolist() for rank, each in by_rank.items()} == {r: [r] * 3 for r in range(3)}
    assert (mean.steps.tolist(), mean.values.tolist()) == ([1, 2, 3], [1.0, 1.0, 1.0])
    assert {rank: len(each) for rank, each in slow.items()} == dict.fromkeys(range(3), 3)
    assert len(only) == 3


def test_a_restart_of_all_ranks_is_a_new_attempt_of_the_same_trial(name):
    """After a rank has failed, the trial has failed; a restart resumes it."""
    ranks(name, failing=1, TRIALSTREAM_ATTEMPT="1")
    with trialstream.sync.connect() as protocol:
        [failed] = protocol.fetch_trials({"name": name}, latest=True)
    ranks(name, TRIALSTREAM_ATTEMPT="2")
    with trialstream.sync.connect() as protocol:
        [trial] = protocol.fetch_trials({"name": name}, latest=True)

    assert failed.status is ts.Status.Exception
    assert {rank: each.status.name for rank, each in failed.ranks.items()} == {
        0: "Completed",
        1: "Exception",
        2: "Completed",
    }
    assert (trial.uid, trial.status, trial.starts) == (failed.uid, ts.Status.Completed, 2)


def attach_and_log(handle: bytes | None) -> None:
    """Log to the trial of the parent process."""
    with ts.track.attach(pickle.loads(handle) if handle else None) as t:
        t.log(child=1.0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("with_handle", [True, False], ids=["handle", "environment"])
def test_a_worker_logs_to_the_trial_of_its_parent(name, method, with_handle):
    """A forked or spawned worker attaches to the trial, by a handle or by the environment, and does not end it."""
    context = multiprocessing.get_context(method)
    with ts.track(name, capture=False) as t, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
        process = context.Process(target=attach_and_log, args=(pickle.dumps(t.handle()) if with_handle else None,))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        t.log(parent=1.0)
        assert t.commit("folded")
        [running] = t.protocol.fetch_trials({"hash": t.trial.hash})
    trial, history = read(t.uid)

    assert running.status is ts.Status.Running
    assert trial.status is ts.Status.Completed
    assert set(history) == {"child", "parent"}
    assert len(trial.writers) == 2


def test_a_forked_child_without_attaching_has_no_trial(name):
    """The child of a fork has no current trial, since its parent's connection is not its own."""
    with ts.track(name, capture=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if ts.current() is None else 1)
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0


def test_attaching_to_nothing_is_an_error():
    """A process that no tracker has started has no trial to attach to."""
    with pytest.raises(ts.ItemNotFound, match="attach"):
        ts.track.attach()


# --- Captures


def test_what_is_captured(name):
    """Output, messages, warnings, the load and the surroundings are in the trial."""
    with ts.track(name) as t:
        sys.stdout.write("to stdout\n")
        sys.stderr.write("to stderr\n")
        logging.getLogger("mine").error("a message")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("careful", UserWarning, stacklevel=1)
        # the facts are logged in the background
        while "packages" not in (found := t.protocol.fetch_trials({"hash": t.trial.hash})[0]).metadata or not any(
            key.startswith("system/") for key in found.metrics
        ):
            t.commit("folded")
    sys.stdout.write("after the end\n")
    trial, _ = read(t.uid)
    said = {key.removeprefix("output/"): "".join(x.values) for key, x in trial.metadata.items() if "output/" in key}

    assert said["stdout"] == "to stdout\n"
    assert said["stderr"].startswith("to stderr\n")
    assert "ERROR mine: a message" in said["logging"]
    assert "UserWarning: careful" in said["warnings"]
    assert trial.metadata["host"]["pid"] == os.getpid()
    assert trial.metadata["packages"]["numpy"] == np.__version__
    assert trial.metadata["command"]["line"][0]
    assert trial.metadata["python"]["version"]
    assert trial.metrics["system/process_memory"].last > 0


def test_the_version_of_the_code(name, tmp_path):
    """The commit of the script's repository is in the trial, and its uncommitted changes."""
    script = tmp_path / "train.py"
    # The commit of a trial this short is left out on a machine that takes more than two seconds to read it.
    script.write_text(
        "import trialstream as ts\nfrom trialstream.tracking.capture import captures\ncaptures._STOP_SECONDS = 50.0\n"
        f"with ts.track({name!r}, capture=['code']) as t:\n    print(t.uid)\n"
    )
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    script.write_text(script.read_text() + "# changed\n")
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    code = read(ended.stdout.strip())[0].metadata["code"]

    assert (code["commit"], code["branch"], code["dirty"]) == (commit, "main", True)
    assert "+# changed" in code["diff"]
    assert len(code["diff_sha256"]) == 64


# --- Without servers


def test_offline(name, tmp_path):
    """A tracker without servers writes to a spool, and a checkpoint is resumed without servers."""
    settings = {"offline": True, "spool_dir": tmp_path / "spool", "capture": False}
    path = tmp_path / "model.pt"
    with ts.track(name, project=name, **settings) as t:
        t.log(loss=1.0, step=1)
        t.checkpoint(path, step=1)
        assert t.commit()
    with ts.track(name, project=name, resume=path, **settings) as again:
        again.log({"loss": 0.5}, step=2)

    assert again.uid == t.uid
    assert list((tmp_path / "spool").rglob("*.avro"))


def test_the_address_of_the_page(name):
    """The tracker has the address of its trial's page if the setting has that of a dashboard."""
    with ts.track(name, capture=False, dashboard="http://localhost:8000/") as t:
        assert t.url == f"http://localhost:8000/trials/{t.uid}"
    with ts.track(name, capture=False) as t:
        assert t.url is None


async def test_the_protocol_beneath(served, name):
    """The protocol of a tracker has the methods that the tracker lacks."""
    async with ts.track(name, capture=False) as t, connected(served):
        await t.protocol.commit("folded")
        [trial] = await t.protocol.fetch_trials({"name": name})

    assert trial.status is ts.Status.Running
