"""`trialstream alerts` on the servers: the command, a restart, and the rules about the servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from contract import connected
from service_support import caught_up, cli, send, until
from trialstream_console.alerts import State, read_rules, run_alerts, running
from trialstream_console.alerts.servers import Servers
from trialstream_console.local.consumer import environment


@pytest.fixture
def files(tmp_path):
    """A function that writes rules whose alerts are appended to a file, and the path of that file."""
    out = tmp_path / "alerts"
    code = f"import os; open({str(out)!r}, 'a').write(os.environ['TRIALSTREAM_ALERT_TEXT'] + chr(10))"
    action = f"[action.write]\nkind = 'command'\ncommand = [{sys.executable!r}, '-c', {json.dumps(code)}]\n"

    def write(**rules):
        path = tmp_path / "rules.toml"
        path.write_text(action + "".join(f'[rule.{n}]\ndo = ["write"]\n{text}\n' for n, text in rules.items()))
        return str(path), lambda: out.read_text().splitlines() if out.exists() else []

    return write


async def test_rules_about_servers_and_trials(config, consumer, files, tmp_path, monkeypatch):
    """Dead letters, lag and a failed trial give one alert each, over several checks; silence waits for the consumer."""
    monkeypatch.setattr(running, "_CAUGHT_UP_SECONDS", 0.3)
    rules, alerts = files(
        failed='when = "failed"',
        letters='when = "dead_letters"\nrepeat = true',
        behind='when = "lag"\nevents = 2\nrepeat = true',
        lost='when = "lost"\nfor = 0.001',
    )
    service = consumer(config)

    async def check():
        with State.open(tmp_path / "state") as state:
            servers = Servers(config, state.behind)
            place = {"mongo": config.mongo, "prefix": config.prefix}
            assert await run_alerts(read_rules(Path(rules)), state, place, servers, once=True) == 0
            servers.close()

    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await check()
        assert alerts() == []

        await send(config, [b"nonsense"])
        await protocol.set_trial_status(trial, ts.Status.Broken, "no data")
        await caught_up(config)
        await check()
        await check()
        assert len(alerts()) == 2
        assert f"failed: trial t ({trial.uid}): failed with status Broken: no data" in alerts()
        assert any(each.startswith("letters: dead letters: the latest is ") for each in alerts())

        lost, late = [await protocol.new_trial(ts.Trial(name="silent", parameters={"n": n})) for n in range(2)]
        await protocol.set_trial_status(lost, ts.Status.Running)
        await caught_up(config)
        await check()
        [alert] = alerts()[2:]
        assert alert.startswith(f"lost: trial silent ({lost.uid}): lost: nothing heard for ")

        await protocol.set_trial_status(late, ts.Status.Running)
        await caught_up(config)
        service.stop()
        for n in range(3):
            await protocol.add_trial_tags(trial, n=n)
        await protocol.commit("acked")
        await check()
    assert alerts()[3:] == ["behind: the projection: 3 events behind the log, over 2"]


async def test_alerts_run_until_a_signal_and_go_on_after_a_kill(served, files, name):
    """A killed process gives no alert again that it has recorded, and SIGTERM ends it."""
    rules, alerts = files(loss=f'when = "metric"\nmetric = "loss"\nover = 10\nwhere = "name = \'{name}\'"')
    command = [sys.executable, "-m", "trialstream_console.cli", "alerts", rules]
    recorded = Path(f"{rules}.state")
    async with connected(served) as protocol:
        trials = [await protocol.new_trial(ts.Trial(name=name, parameters={"n": n})) for n in range(2)]
        for trial, end in zip(trials, (signal.SIGKILL, signal.SIGTERM), strict=True):
            process = await run_sync(lambda: subprocess.Popen(command, env={**os.environ, **environment(served)}))
            try:
                await protocol.log_trial_metrics(trial, step=1, loss=100.0)
                await until(lambda uid=trial.uid: recorded.exists() and uid in recorded.read_text())
            finally:
                process.send_signal(end)
                code = await run_sync(process.wait, 30)
            assert code in (-signal.SIGKILL, 128 + signal.SIGTERM)
    expected = [f"loss: trial {name} ({each.uid}): last of metric loss is 100, over 10" for each in trials]
    assert alerts() == expected


async def test_an_error_of_the_rules_is_one_line(served, files):
    """The exit code is 1; --check needs no servers, and the first run says that it is the first."""
    rules, _ = files(a='when = "failed"')
    checked = await run_sync(lambda: cli(served, "alerts", rules, "--check", environment={"TRIALSTREAM_MONGO": ""}))
    assert (checked.returncode, checked.stdout) == (0, f"{rules}: 1 rule\n")
    runs = [await run_sync(cli, served, "alerts", rules, "--once") for _ in range(2)]
    assert [each.returncode for each in runs] == [0, 0]
    assert runs[0].stdout.startswith("1 rule: watching from now on; ")
    assert runs[1].stdout == ""
    rules, _ = files(a='when = "never"')
    wrong = await run_sync(cli, served, "alerts", rules)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(f"error: {rules}: rule 'a': when: expected one of ")
