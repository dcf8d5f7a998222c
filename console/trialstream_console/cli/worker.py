"""`python -m trialstream_console.cli.worker NUMBER NAME [--verbose]`: a worker of `trialstream consume --workers N`.

NAME is that of the supervisor, and NUMBER that of the worker. The worker stops when its stdin ends.
"""

from __future__ import annotations

import logging
import sys

import anyio
import structlog
from trialstream.config import Config
from trialstream.waiting import receive_notices
from trialstream_consumer.processes import stop_with_parent
from trialstream_consumer.service import Service
from trialstream_schemas.errors import ConfigError, LogMismatch, TrialStreamError

from trialstream_console.cli.logs import log_json
from trialstream_console.cli.output import say_error
from trialstream_console.cli.supervisor import REFUSED


async def _work(config: Config, instance: str) -> None:
    log = structlog.get_logger("trialstream_consumer")
    with receive_notices(lambda text: log.info("waiting", reason=text)):
        await Service(config, instance).run()


def main(number: str, name: str, *options: str) -> None:
    """Run one member of the consumer group."""
    stop_with_parent()
    log_json(logging.DEBUG if "--verbose" in options else logging.INFO, worker=int(number))
    try:
        anyio.run(_work, Config.from_env(), f"{name}-{number}")
    except TrialStreamError as error:
        say_error(error)
        sys.exit(REFUSED if isinstance(error, (ConfigError, LogMismatch)) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
