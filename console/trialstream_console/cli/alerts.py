"""`alerts`: rules about trials and servers, and what is done when one begins to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from trialstream.config import Config
from trialstream_schemas.messages import counted

from trialstream_console.alerts import Rules, State, read_rules, run_alerts
from trialstream_console.alerts.servers import Servers
from trialstream_console.cli.output import say
from trialstream_console.cli.running import run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(alerts)


def alerts(
    rules: Annotated[Path, typer.Argument(metavar="RULES", help="File with the rules, TOML.")],
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File that remembers which alerts were given; RULES.state by default."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Check each rule once and end, for cron; exit code 1 if an action failed.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the file with the rules, and end.")] = False,
) -> None:
    """Watch trials and servers, and give an alert when a rule begins to hold, until SIGTERM or Ctrl-C.

    A rule gives one alert for each trial: by a webhook, a command, or a line on stderr. The state file survives a
    restart; an action that was running when the process was killed is repeated.
    """
    found = read_rules(rules)
    count = counted(len(found.rules), "rule")
    if check:
        say(f"{rules}: {count}")
        return
    path = state or rules.with_name(f"{rules.name}.state")
    if not path.exists():
        say(f"{count}: watching from now on; {path} remembers which alerts were given")
    if run(_alerts, Config.from_env(), found, path, once):
        raise typer.Exit(1)


async def _alerts(config: Config, rules: Rules, path: Path, once: bool) -> int:
    with State.open(path) as state:
        servers = Servers(config, state.behind)
        try:
            return await run_alerts(rules, state, {"offline": False}, servers, once=once)
        finally:
            servers.close()
