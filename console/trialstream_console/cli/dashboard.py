"""`dashboard`: the web page and its API."""

from __future__ import annotations

import gc
import logging
import os
from typing import TYPE_CHECKING, Annotated

import typer
from trialstream import connect
from trialstream_schemas.errors import ConfigError

from trialstream_console.cli.logs import log_json
from trialstream_console.cli.output import say

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["make_served_app", "register"]

_APP = f"{__name__}:make_served_app"
# Answers are many objects without cycles. At the default threshold of 700, the collector visits those of a large trial
# so often that reading it takes twice the time, in steps of 50 ms in which the event loop does not run (measured).
_GC_THRESHOLD = 100_000


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(dashboard)


def dashboard(
    host: Annotated[
        str | None,
        typer.Option(envvar="TRIALSTREAM_DASHBOARD_HOST", help="Address to listen on. [127.0.0.1]"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, envvar="TRIALSTREAM_DASHBOARD_PORT", help="Port. [8790]")
    ] = None,
    token_file: Annotated[str | None, typer.Option(help="File with the token that every request must have.")] = None,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Allow the page to write tags and notes.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Number of processes that answer requests.")] = 1,
    projection: Annotated[
        str | None, typer.Option(help="Name of a projection to show, made by `trialstream rebuild --until`.")
    ] = None,
) -> None:
    """Serve the dashboard until SIGTERM or Ctrl-C.

    It listens on loopback, unless --host names another address; it then demands a token, which
    TRIALSTREAM_DASHBOARD_TOKEN or --token-file sets, or the header of a proxy that checks logins, which
    TRIALSTREAM_DASHBOARD_PROXY_HEADER names.
    """
    try:
        import uvicorn  # noqa: PLC0415 - an optional dependency

        from trialstream_console.dashboard.connections import Connection, raise_file_limit  # noqa: PLC0415
        from trialstream_console.dashboard.settings import Settings  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("the dashboard is not installed: pip install 'trialstream[dashboard]'") from None
    if projection is not None:
        os.environ["TRIALSTREAM_PROJECTION"] = projection
    settings = Settings.from_env(host=host, port=port, token_file=token_file, writes=allow_writes)
    connect(read_only=True)  # checks the settings, once for all workers
    os.environ.update(settings.environment())
    raise_file_limit()
    say(f"Dashboard at {settings.address}")
    uvicorn.run(
        _APP,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        http=Connection,
        log_level="error",  # its warnings are about what clients send, each time
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        h11_max_incomplete_event_size=64 * 1024,
        timeout_graceful_shutdown=3,
    )


def make_served_app() -> Starlette:
    """Make the application in a process that uvicorn runs, which logs one JSON object a line."""
    from trialstream_console.dashboard.app import make_app  # noqa: PLC0415 - an optional dependency

    log_json(logging.INFO)
    logging.getLogger("trialstream_dashboard").setLevel(logging.INFO)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    return make_app()
