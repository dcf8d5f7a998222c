"""The supervisor of `trialstream consume --workers N`: starts the workers, restarts those that die, and stops all.

- Each worker is a process (`worker.py`) and a member of the consumer group, so Kafka shares the partitions among the
  workers as among machines. A worker has a name in the group (a static member): when it is killed, the process that
  replaces it gets the same partitions at once, and the other workers fold on undisturbed.
- The workers write their logs into pipes. The supervisor copies them to its own stderr, line by line.
- A worker ends when its stdin ends: no worker outlives a supervisor that was killed.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import Process
from trialstream.config import Config
from trialstream.event_log.topics import ensure_topics
from trialstream_consumer.processes import STOP_SECONDS, exit_reason, lines, open_child
from trialstream_consumer.projection.deployment import check_deployment
from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.messages import counted

__all__ = ["REFUSED", "Restarts", "Supervisor", "WorkerFailed"]

REFUSED = 3
"""Exit code of a worker that would fail again: wrong settings, or a log that does not match the projection."""

# Delays before the restarts of a worker that dies again and again, seconds.
_DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0)
# A worker that has run for so long has not died again at once.
_STEADY_SECONDS = 60.0
_WORKER = "trialstream_console.cli.worker"


class WorkerFailed(TrialStreamError):
    """A worker ended again after each restart, or cannot run at all."""


@dataclass
class Restarts:
    """The restarts of one worker."""

    _deaths: int = 0

    def delay(self, lived: float) -> float | None:
        """Return the seconds to wait before a restart; None if the worker has died too often.

        Args:
            lived: How long the worker ran, seconds.
        """
        if lived >= _STEADY_SECONDS:
            self._deaths = 0
        self._deaths += 1
        return _DELAYS[self._deaths - 1] if self._deaths <= len(_DELAYS) else None


class Supervisor:
    """Workers that fold the log together, and are replaced when they die.

    Args:
        config: Settings, which the workers read from the environment, too.
        workers: Number of workers; no more than partitions are started.
        verbose: Whether the workers log every batch.
    """

    def __init__(self, config: Config, workers: int, *, verbose: bool) -> None:
        self._config = config
        self._workers = workers
        self._options = ["--verbose"] * verbose
        self._log = structlog.get_logger("trialstream_consumer")
        # Unique, so that no other supervisor has members of the same names.
        self._name = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._processes: dict[int, Process] = {}
        self._checking = anyio.CancelScope()
        self._stopping = anyio.Event()
        self._failure: TrialStreamError | None = None

    async def run(self) -> None:
        """Run the workers until SIGTERM or SIGINT, and stop them.

        Raises:
            ConfigError: MongoDB has no transactions or is too old.
            KafkaUnavailable: No broker answered at start.
            LogMismatch: The topics have another partition count than the log was created with.
            MongoUnavailable: MongoDB did not answer at start.
            WorkerFailed: A worker failed for good; the others were stopped.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_on_signal)
            tasks.start_soon(self._stop)
            try:
                with self._checking:
                    await self._check()
                async with anyio.create_task_group() as workers:
                    for number in range(1, self._workers + 1):
                        workers.start_soon(self._keep, number)
            except TrialStreamError as error:  # raised below: the task group would wrap it in an exception group
                self._failure = error
            tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        self._log.info("stopped")

    async def _check(self) -> None:
        """Check the servers once for all workers, and reduce their number to that of the partitions."""
        await check_deployment(self._config)
        partitions = (await ensure_topics(self._config, to_fold=True)).partitions + 1  # and the registry's
        if self._workers > partitions:
            most = counted(partitions, "partition")
            reason = f"--workers {self._workers}: the log has {most}, and more workers would be idle"
            self._log.warning("fewer_workers", workers=partitions, reason=reason)
            self._workers = partitions

    async def _stop_on_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self._log.info("stopping", signal=signal.Signals(number).name)
                self._stopping.set()

    async def _stop(self) -> None:
        await self._stopping.wait()
        self._checking.cancel()
        self._signal(signal.SIGTERM)
        await anyio.sleep(STOP_SECONDS)
        self._log.warning("stop_timed_out", workers=list(self._processes), seconds=STOP_SECONDS)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for each in self._processes.values():
            with suppress(ProcessLookupError):  # a worker that has ended, and whose output is still being read
                each.send_signal(number)

    async def _keep(self, number: int) -> None:
        """Run a worker, and another in its place whenever it ends, until the supervisor stops."""
        restarts = Restarts()
        while not self._stopping.is_set():
            began = time.monotonic()
            pid, code, latest = await self._run(number)
            if self._stopping.is_set():
                return
            delay = restarts.delay(time.monotonic() - began)
            if code == REFUSED or delay is None:
                times = "" if code == REFUSED else f" {len(_DELAYS) + 1} times in a row, the last time"
                reason = f"{exit_reason(code)}; {latest or 'its log has more'}"
                self._failure = WorkerFailed(f"worker {number} ended{times}: {reason}")
                self._stopping.set()
                return
            self._log.warning("worker_died", worker=number, pid=pid, reason=exit_reason(code), seconds=delay)
            with anyio.move_on_after(delay):
                await self._stopping.wait()

    async def _run(self, number: int) -> tuple[int, int, str]:
        """Run a worker to its end; return its pid, its exit code, and its latest output that was not a log event."""
        latest = ""
        async with open_child(_WORKER, str(number), self._name, *self._options, stderr=subprocess.PIPE) as process:
            self._processes[number] = process
            self._log.info("worker_started", worker=number, pid=process.pid)
            if self._stopping.is_set():  # since the process was begun
                self._signal(signal.SIGTERM)
            async for line in lines(process.stderr):
                if _is_event(line):
                    sys.stderr.buffer.write(line + b"\n")
                    sys.stderr.buffer.flush()
                else:  # such as a traceback
                    latest = line.decode(errors="replace")
                    self._log.error("output", worker=number, text=latest)
            code = await process.wait()
            del self._processes[number]
        return process.pid, code, latest


def _is_event(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
