"""Run `digits.py` on a Kafka, a MongoDB and a consumer of its own; this is `make demo`.

The servers use the folder `.demo` and free ports, and are stopped at the end. Each demo has a prefix of its own, so it
begins with empty topics and an empty database. The data is kept in the folder: docs/demo.md shows how to read it. With
`--keep` (`make demo KEEP=1`), the servers and the dashboard run on, until `trialstream down --data .demo`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from trialstream.config import Config
from trialstream_console.cli.progress import Steps
from trialstream_console.local import LocalStack, LocalStackError, Ports, launcher
from trialstream_console.local.consumer import environment
from trialstream_console.local.folder import DataFolder
from trialstream_console.local.status import read_status

HERE = Path(__file__).resolve().parent
INTERRUPT_SECONDS = 15.0  # for the workers to log that their trials were interrupted, which takes about 1 s


def main() -> int:
    """Start the servers, run the search, stop the servers, and return the exit code of the search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / ".demo", help="folder of the servers' data and logs")
    parser.add_argument("--keep", action="store_true", help="leave the servers and the dashboard running")
    options = parser.parse_args()
    stop_on(signal.SIGTERM, signal.SIGHUP)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its warnings report requests that it then retries
    console = Console()
    prefix = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    try:
        if options.keep:
            return search_and_keep(DataFolder(options.data), prefix, console)
        with (
            Steps(console) as steps,
            LocalStack(options.data, ports=Ports.free(), prefix=prefix, on_step=steps) as stack,
        ):
            console.quiet = True  # the last line of the output is that of the search
            return search(stack.config, stack.failure)
    except LocalStackError as error:
        print(f"demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        print("demo failed: interrupted")
        return 128 + signal.SIGINT


def stop_on(*signals: signal.Signals) -> None:
    """Make these signals stop the demo in order, like Ctrl-C, unless they are ignored, as with `nohup`."""
    for each in signals:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, signal.default_int_handler)


def search_and_keep(folder: DataFolder, prefix: str, console: Console) -> int:
    """Start servers that run on after this process, run the search, and print the address of the dashboard."""
    ports = Ports.free()
    options = {"--kafka-port": ports.kafka, "--mongo-port": ports.mongo, "--dashboard-port": ports.dashboard}
    arguments = [text for pair in options.items() for text in map(str, pair)]
    with Steps(console) as steps:
        launcher.stop(folder)
        launcher.start_detached(folder, [*arguments, "--prefix", prefix], steps)
        console.quiet = True
    settings = folder.read_settings()
    assert settings is not None
    code = search(settings.config(), lambda: "")
    if address := read_status(folder).settings.get("TRIALSTREAM_DASHBOARD"):
        print(f"The dashboard is at {address}")
    print(f"The servers run on. To stop them: {HERE.parent / '.venv/bin/trialstream'} down --data {folder.path}")
    return code


def search(config: Config, failure: Callable[[], str]) -> int:
    """Run `digits.py` on servers, and return its exit code.

    Args:
        config: Settings of clients.
        failure: Returns why a server has died; empty if none has.

    The search has a session of its own: Ctrl-C reaches this process only, which forwards it to the search and its
    workers, waits for them, and then stops the servers.
    """
    command = [sys.executable, str(HERE / "digits.py")]
    variables = {**os.environ, **environment(config)}
    child = subprocess.Popen(command, env=variables, start_new_session=True)  # noqa: S603 (our own)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        os.killpg(child.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(INTERRUPT_SECONDS)
        raise
    finally:
        with suppress(ProcessLookupError):  # no process is left, as expected
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if found := failure():
        print(found, file=sys.stderr)
    if code < 0:
        print(f"demo failed: the search was killed by {signal.Signals(-code).name}")
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
