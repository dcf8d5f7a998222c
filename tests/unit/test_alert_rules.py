"""Alerts over a log in memory: the rules of a file, each condition of trials, actions, and what a restart repeats."""

from __future__ import annotations

import contextlib
import json
import math
import re
import stat
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest
import trialstream as ts
from trialstream_console.alerts import State, actions, forgetting, read_rules, run_alerts, running
from trialstream_console.alerts.state import Entry

SECONDS = 20
DOCS = Path(__file__).parents[2] / "docs" / "watching.md"


class Hooks(ThreadingHTTPServer):
    """A real webhook on this machine: what was posted, and the statuses that it answers; the last one stays."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted = []
        self.statuses = [200]
        self.url = f"http://127.0.0.1:{self.server_port}/secret-token"

    @property
    def texts(self):
        """The texts that were taken."""
        return [json.loads(body)["text"] for status, body in self.posted if status == 200]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        """Take a post."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        self.server.posted.append((status, body))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.url)
        self.end_headers()

    def log_message(self, *_):
        """Log nothing."""


@pytest.fixture
def hooks(monkeypatch):
    """A webhook, whose URL is in the variable HOOK."""
    monkeypatch.setattr(actions, "_PAUSES", (0.01,))
    server = Hooks()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HOOK", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


WEBHOOK = '[action.hook]\nkind = "webhook"\nurl_env = "HOOK"\n'


@pytest.fixture
def rules(tmp_path):
    """A function that writes a file of rules and reads it."""

    def read(text):
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return read_rules(path)

    return read


def rule(when, more="", name="r"):
    """Return a rule whose action is the webhook."""
    return f'{WEBHOOK}[rule.{name}]\nwhen = "{when}"\ndo = ["hook"]\n{more}\n'


@pytest.fixture
async def place():
    """A log in memory, and a protocol that logs to it."""
    url = f"memory:{uuid.uuid4().hex}"
    async with ts.connect(url) as protocol:
        yield protocol, {"url": url}


async def until(condition):
    """Wait until a condition holds."""
    with anyio.fail_after(SECONDS):
        while not condition():  # noqa: ASYNC110 (other threads make it true)
            await anyio.sleep(0.01)


@contextlib.asynccontextmanager
async def running_alerts(rules, state, place):
    """Run rules while the block runs."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_alerts, rules, state, place)
        yield
        tasks.cancel_scope.cancel()


# --- The file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule = 3", "rules.toml: rule: expected tables [rule.NAME], got 3"),
        ("", "expected at least one table [rule.NAME], got none"),
        ("[rule.a", "expected TOML: "),
        ("[rules.a]\nwhen='failed'", "'rules': no such key; expected action, rule"),
        (
            "[rule.a]",
            "rule 'a': when: expected one of no_rows, nan, metric, failed, rank_lost, lost, lag, dead_letters",
        ),
        ("[rule.a]\nwhen='x'", "rule 'a': when: expected one of no_rows, nan"),
        ("[rule.a]\nwhen='failed'\nwhre='x'", "rule 'a': 'whre': no such key; expected when, where, do, repeat"),
        ("[rule.a]\nwhen='failed'\nwhere='statu = 1'", "rule 'a': where, column"),
        ("[rule.a]\nwhen='failed'\ndo=['x']", "rule 'a': do: expected names of actions (log), got"),
        ("[rule.a]\nwhen='failed'\ndo='log'", "rule 'a': do: expected a list of texts, got 'log'"),
        ("[rule.a]\nwhen='failed'\nrepeat=1", "rule 'a': repeat: expected true or false, got 1"),
        ("[rule.a]\nwhen='no_rows'", "rule 'a': for: expected a duration such as"),
        ("[rule.a]\nwhen='no_rows'\nfor='10 minutes'", "rule 'a': for: expected a duration"),
        ("[rule.a]\nwhen='no_rows'\nfor=0", "rule 'a': for: expected a duration"),
        ("[rule.a]\nwhen='metric'\nmetric='l'", "rule 'a': expected the key over, under, or both, got neither"),
        ("[rule.a]\nwhen='metric'\nover=1", "rule 'a': metric: expected a text, got nothing"),
        ("[rule.a]\nwhen='metric'\nmetric='l'\nover=nan", "rule 'a': over: expected a number, got nan"),
        ("[rule.a]\nwhen='metric'\nmetric='l'\nover=1\nvalue='mean'", "rule 'a': value: expected one of last, min"),
        ("[rule.a]\nwhen='lag'", "rule 'a': expected the key events, seconds, or both, got neither"),
        ("[rule.a]\nwhen='lag'\nevents=1\nwhere='name = x'", "rule 'a': 'where': no such key"),
        ("[action.x]\nkind='mail'", "action 'x': kind: expected one of webhook, command, log, got 'mail'"),
        ("[action.x]\nkind='webhook'", "action 'x': expected the key url_env (a variable) or url_file (a file)"),
        ("[action.x]\nkind='webhook'\nurl='http://a/b'", "action 'x': expected the key url_env"),
        (
            "[action.x]\nkind='webhook'\nurl_env='NO_SUCH'",
            "action 'x': url_env: expected it to hold an http or https URL",
        ),
        ("[action.x]\nkind='webhook'\nurl_env='HOOK'\ntimeout='1h'", "action 'x': timeout: expected at most 300 s"),
        (
            "[action.x]\nkind='webhook'\nurl_env='HOOK'\nretries=99",
            "expected a whole number from 0 to 10, got 99",
        ),
        ("[action.x]\nkind='command'\ncommand='ls'", "action 'x': command: expected a list of texts, got 'ls'"),
    ],
    ids=lambda each: each.replace("\n", " ")[-40:],
)
def test_an_error_of_the_file_names_the_rule_and_the_key(rules, monkeypatch, text, message):
    """Nothing is ignored, and no value is guessed."""
    monkeypatch.setenv("HOOK", "https://hooks.example/secret-token")
    with pytest.raises(ts.ConfigError) as caught:
        rules(text)
    assert message in str(caught.value)
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://a/secret", "http:///secret", "secret", "http://a b/secret", "http://a:x/secret"]
)
def test_a_url_that_is_refused_is_not_shown(rules, monkeypatch, url):
    """It may hold a token."""
    monkeypatch.setenv("HOOK", url)
    with pytest.raises(ts.ConfigError, match="url_env") as caught:
        rules(rule("failed"))
    assert "secret" not in str(caught.value)


def test_a_url_in_a_file(rules, tmp_path):
    """The secret can be a file, as those of containers are, and it is in no `repr`."""
    (tmp_path / "url").write_text("https://hooks.example/secret\n")
    found = rules(f'[action.hook]\nkind="webhook"\nurl_file="{tmp_path}/url"\n[rule.a]\nwhen="failed"\ndo=["hook"]')
    assert found.actions["hook"].url == "https://hooks.example/secret"
    assert "secret" not in repr(found)


def test_the_rules_of_the_documentation(rules, monkeypatch):
    """The example is a file of rules."""
    monkeypatch.setenv("SLACK_WEBHOOK", "https://hooks.example/secret")
    [text] = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert [each.name for each in rules(text).rules] == ["stuck", "diverged", "behind"]


# --- Conditions


async def fail(protocol, trial):
    """Let a trial fail."""
    await protocol.log_trial_start(trial)
    await protocol.log_trial_finish(trial, ValueError, ValueError("no data"), None)


async def log_nan(protocol, trial):
    """Log a value that is no number, and one that is."""
    await protocol.log_trial_metrics(trial, step=1, loss=math.nan, accuracy=0.5)
    await protocol.log_trial_metrics(trial, step=2, loss=1.0, accuracy=0.5)


async def log_high(protocol, trial):
    """Log a high value and a low one."""
    for step, loss in enumerate((0.5, 50.0, 0.1)):
        await protocol.log_trial_metrics(trial, step=step, loss=loss)


@pytest.mark.parametrize(
    ("text", "happens", "message"),
    [
        (rule("failed"), fail, "failed with status Exception: ValueError: no data"),
        (rule("nan"), log_nan, "metric loss was nan once"),
        (rule("nan", 'metric = "loss"'), log_nan, "metric loss was nan once"),
        (rule("metric", 'metric = "loss"\nvalue = "max"\nover = 10'), log_high, "max of metric loss is 50, over 10"),
        (rule("metric", 'metric = "loss"\nunder = 0.2'), log_high, "last of metric loss is 0.1, under 0.2"),
    ],
    ids=["failed", "nan", "nan of a metric", "metric over", "metric under"],
)
async def test_a_condition_gives_one_alert_for_each_trial(rules, place, hooks, text, happens, message):
    """Also over a restart; a trial of the past, and another trial that is in order, give none."""
    protocol, arguments = place
    good, bad, later = [await protocol.new_trial(ts.Trial(name="t", parameters={"n": n})) for n in range(3)]
    await protocol.log_trial_metrics(good, step=1, loss=1.0, accuracy=1.0)
    await protocol.commit("folded")
    state = State()
    async with running_alerts(rules(text), state, arguments):
        await happens(protocol, bad)
        await until(lambda: state.rule("r", rules(text).rules[0].digest).entries)
        await protocol.add_trial_tags(bad, x=1)
    async with running_alerts(rules(text), state, arguments):
        await happens(protocol, later)
        await until(lambda: len(hooks.texts) == 2)

    assert hooks.texts == [f"r: trial t ({each.uid}): {message}" for each in (bad, later)]


async def test_conditions_that_do_not_hold(rules, place, hooks):
    """Values within the limits, missing metrics and other metrics give no alert."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name="t"))
    await log_nan(protocol, trial)
    await protocol.commit("folded")
    text = "\n".join(
        f'[rule.r{i}]\nwhen = "{when}"\ndo = ["hook"]\n{more}'
        for i, (when, more) in enumerate(
            [
                ("failed", ""),
                ("nan", 'metric = "accuracy"'),
                ("metric", 'metric = "accuracy"\nover = 0.5\nunder = 0.5'),
                ("metric", 'metric = "missing"\nunder = 1'),
                ("lost", ""),
                ("rank_lost", ""),
                ("no_rows", 'for = "1m"'),
                ("nan", "where = 'name = other'"),
            ]
        )
    )
    assert await run_alerts(rules(WEBHOOK + text), State(), arguments, once=True) == 0
    assert hooks.posted == []


async def test_a_trial_without_rows(rules, place, hooks):
    """A running trial gives an alert once nothing came for some time; its next row clears that, for `repeat`."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name="t"))
    await protocol.log_trial_start(trial)
    await protocol.log_trial_metrics(trial, step=1, loss=1.0)
    text = rule("no_rows", 'for = "0.4s"\nrepeat = true')
    state = State()
    async with running_alerts(rules(text), state, arguments):
        await until(lambda: len(hooks.texts) == 1)
        await protocol.log_trial_metrics(trial, step=2, loss=1.0)
        await until(lambda: len(hooks.texts) == 2)
        await protocol.log_trial_finish(trial)
        await until(lambda: not state.rule("r", rules(text).rules[0].digest).entries)

    assert "no row for " in hooks.texts[0]
    assert hooks.texts[1].endswith("2 rows in all")


async def test_lost_trials_and_ranks(rules, place, hooks):
    """A rank is lost while another one still logs; a trial is lost when none does."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name="t"))
    await protocol.log_trial_start(trial, attempt=ts.Attempt("a", rank=0, world_size=2))
    await protocol.commit("folded")
    text = rule("rank_lost", 'for = "0.3s"') + '[rule.l]\nwhen = "lost"\nfor = "0.6s"\ndo = ["hook"]'
    async with running_alerts(rules(text), State(), arguments):
        await until(lambda: len(hooks.texts) == 2)

    assert [each.split(": ")[2] for each in hooks.texts] == ["1 of 1 rank lost", "lost"]


async def test_an_alert_is_repeated_after_it_was_cleared(rules, place, hooks):
    """With `repeat`, also if it was cleared while nothing ran; without it, never."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name="t"))
    text = rule("metric", 'metric = "loss"\nover = 1\nrepeat = true') + (
        '[rule.never]\nwhen = "metric"\nmetric = "loss"\nover = 1\ndo = ["hook"]'
    )
    state = State()

    async def check(loss):
        await protocol.log_trial_metrics(trial, step=1, loss=loss)
        await protocol.commit("folded")
        await run_alerts(rules(text), state, arguments, once=True)

    for loss in (2.0, 3.0, 0.5, 4.0):
        await check(loss)
    assert sorted(each.split(":")[0] for each in hooks.texts) == ["never", "r", "r"]


# --- Actions


async def test_a_webhook_is_tried_again(rules, place, hooks):
    """Errors of the server pass; what is refused for good is tried by the next check."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name="t"))
    await fail(protocol, trial)
    await protocol.commit("folded")
    state = State()
    hooks.statuses = [404]
    assert await run_alerts(rules(rule("failed")), state, arguments, once=True) == 1
    hooks.statuses = [503, 429, 200]
    assert await run_alerts(rules(rule("failed")), state, arguments, once=True) == 0
    assert [status for status, _ in hooks.posted] == [404, 503, 429, 200]


@pytest.mark.parametrize("statuses", [[302], [500]], ids=["a redirect", "an error"])
async def test_a_url_is_in_no_log(rules, place, hooks, caplog, statuses):
    """A failure is logged without the URL."""
    protocol, arguments = place
    await fail(protocol, await protocol.new_trial(ts.Trial(name="t")))
    await protocol.commit("folded")
    hooks.statuses = statuses
    assert await run_alerts(rules(rule("failed")), State(), arguments, once=True) == 1
    assert f"status {statuses[0]}" in caplog.text
    assert "secret-token" not in caplog.text


async def test_hostile_names(rules, place, hooks):
    """A text has one line, no markup of Slack, and a bounded length."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name="<!channel>\n\x1b[2J" + "x" * 900))
    await fail(protocol, trial)
    await protocol.commit("folded")
    await run_alerts(rules(rule("failed")), State(), arguments, once=True)
    [text] = hooks.texts
    assert "&lt;!channel&gt;" in text
    assert text.isprintable()
    assert len(text) < 2100


async def test_actions_that_have_succeeded_are_not_repeated(rules, place, hooks, tmp_path, caplog):
    """Of several actions, those that failed are tried again; a command gets the alert in its environment."""
    protocol, arguments = place
    trial = await protocol.new_trial(ts.Trial(name="t"))
    await fail(protocol, trial)
    await protocol.commit("folded")
    code = f"import os, sys; open({str(tmp_path / 'out')!r}, 'a').write(repr(sorted(os.environ.items())))"
    text = (
        f"{WEBHOOK}[action.run]\nkind = 'command'\ncommand = [{sys.executable!r}, '-c', {json.dumps(code)}]\n"
        '[rule.r]\nwhen = "failed"\ndo = ["log", "run", "hook"]'
    )
    state = State()
    hooks.statuses = [400]
    assert await run_alerts(rules(text), state, arguments, once=True) == 1
    hooks.statuses = [200]
    assert await run_alerts(rules(text), state, arguments, once=True) == 0
    assert await run_alerts(rules(text), state, arguments, once=True) == 0
    environment = dict(eval((tmp_path / "out").read_text()))
    assert len(hooks.texts) == 1
    assert caplog.messages.count(hooks.texts[0]) == 1
    assert environment["TRIALSTREAM_ALERT_RULE"] == "r"
    assert environment["TRIALSTREAM_ALERT_TRIAL"] == trial.uid
    assert environment["TRIALSTREAM_ALERT_NAME"] == "t"
    assert environment["TRIALSTREAM_ALERT_TEXT"] == hooks.texts[0]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["/no/such/program"], "/no/such/program: No such file or directory"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "exit code 3"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "not finished after 0.2 s"),
    ],
    ids=["missing", "exit code", "too slow"],
)
async def test_a_command_that_fails(rules, place, caplog, command, message):
    """The log says why."""
    protocol, arguments = place
    await fail(protocol, await protocol.new_trial(ts.Trial(name="t")))
    await protocol.commit("folded")
    text = (
        f"[action.run]\nkind = 'command'\ncommand = {json.dumps(command)}\ntimeout = 0.2\n"
        '[rule.r]\nwhen = "failed"\ndo = ["run"]'
    ).replace("timeout = 0.2", "timeout = 0.2" if "time" in command[-1] else "timeout = 20")
    assert await run_alerts(rules(text), State(), arguments, once=True) == 1
    assert message in caplog.text


async def test_a_failed_action_is_tried_again_while_the_rules_run(rules, place, hooks, monkeypatch):
    """After a minute, here a moment, though nothing changes."""
    monkeypatch.setattr(running, "_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(running, "_TICK_SECONDS", 0.05)
    protocol, arguments = place
    await fail(protocol, await protocol.new_trial(ts.Trial(name="t")))
    hooks.statuses = [400, 400, 200]
    async with running_alerts(rules(rule("failed")), State(), arguments):
        await until(lambda: hooks.texts)
    assert [status for status, _ in hooks.posted] == [400, 400, 200]


# --- The state file


async def test_old_alerts_are_forgotten(rules, place, hooks, monkeypatch):
    """After 90 days, unless their trial was heard from since, or is a running one of a rule about silence."""
    protocol, arguments = place
    failed, lost = [await protocol.new_trial(ts.Trial(name="t", parameters={"n": n})) for n in range(2)]
    await fail(protocol, failed)
    await protocol.log_trial_start(lost)
    await protocol.commit("folded")
    found = rules(rule("failed") + '[rule.lost]\nwhen = "lost"\nfor = "1h"')
    old, recent = [datetime.now(UTC) - timedelta(days=days) for days in (91, 89)]
    state = State()
    entries = [state.rule(each.name, each.digest).entries for each in found.rules]
    for each in entries:
        given = {failed.uid: old, lost.uid: old, "gone": old, "recent": recent}
        each.update({uid: Entry(time.isoformat(), ["hook", "log"]) for uid, time in given.items()})
    await run_alerts(found, state, arguments, once=True)
    assert [{*each} for each in entries] == [{failed.uid, lost.uid, "recent"}] * 2

    monkeypatch.setattr(forgetting, "KEPT", timedelta(0))  # as if nothing had been heard for so long
    await run_alerts(found, state, arguments, once=True)
    assert [{*each} for each in entries] == [set(), {lost.uid}]
    assert hooks.texts == []


async def test_the_state_file_survives(rules, place, hooks, tmp_path):
    """It is private and whole, another process cannot use it meanwhile, and another condition begins anew."""
    protocol, arguments = place
    path = tmp_path / "alerts.state"
    trial = await protocol.new_trial(ts.Trial(name="t"))
    await log_high(protocol, trial)
    await protocol.commit("folded")

    async def check(over):
        text = rule("metric", f'metric = "loss"\nvalue = "max"\nover = {over}')
        with State.open(path) as state:
            await run_alerts(rules(text), state, arguments, once=True)
            with pytest.raises(ts.InvalidValue, match="another process uses it"), State.open(path):
                pass

    await check(10)
    await check(10)
    assert len(hooks.texts) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await check(20)
    assert len(hooks.texts) == 2


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"version": 2}', '{"version": 1, "rules": {"a": 3}, "behind": null}'], ids=repr
)
def test_a_file_that_is_no_state(tmp_path, content):
    """The error names the file and the remedy."""
    path = tmp_path / "state"
    path.write_text(content)
    with pytest.raises(ts.InvalidValue, match="expected a state file of this version"), State.open(path):
        pass
