"""`python -m trialstream_consumer.replay.share`: a process that folds a share of a replay (`sharing.py`)."""

from __future__ import annotations

import json
import logging
import signal
import sys
from typing import NoReturn

import anyio
import structlog
from aiokafka import TopicPartition
from trialstream_schemas.errors import TrialStreamError

from trialstream_consumer.processes import stop_with_parent
from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.replay.replay import Replay
from trialstream_consumer.replay.sharing import Share


def main() -> None:
    """Fold the share that stdin names; the exit code is 0 if all of it is folded."""
    share = Share.from_json(sys.stdin.readline())
    stop_with_parent()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, _send_event],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    sys.exit(0 if anyio.run(_run, share) else 1)


async def _run(share: Share) -> bool:
    """Return whether the share is folded: not if SIGTERM has stopped this process, which finishes its transactions."""
    done = False
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    tasks.cancel_scope.cancel()

            tasks.start_soon(stop_on_signal)
            try:
                await _fold(share)
                done = True
            except TrialStreamError as error:  # sent: the task group would wrap it in an exception group
                _send(type(error).__name__, str(error))
            tasks.cancel_scope.cancel()
    return done


async def _fold(share: Share) -> None:
    async with Catalog(share.config) as catalog:
        store = catalog.offline_store(share.namespace)
        async with Replay(share.config, store, share.partitions, only=list(share.ends)) as replay:
            await replay.fold_once(share.ends, _send_reached)


def _send_reached(partition: TopicPartition, offset: int) -> None:
    _send("reached", [*partition, offset])


def _send_event(_logger: object, _method: str, event: structlog.typing.EventDict) -> NoReturn:
    _send("log", event)
    raise structlog.DropEvent


def _send(kind: str, content: object) -> None:
    print(json.dumps([kind, content], default=str), flush=True)  # noqa: T201 - the parent reads stdout


if __name__ == "__main__":
    main()
