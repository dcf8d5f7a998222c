"""`trialstream consume --workers N` as a child process of a test."""

from __future__ import annotations

import json

from trialstream_console.local.consumer import ConsumerService


class SupervisedConsumer(ConsumerService):
    """A consumer of several workers.

    Args:
        folder: Folder of its log.
        config: Settings.
        workers: Number of workers.
    """

    def __init__(self, folder, config, workers=2):
        super().__init__(folder, config)
        self._workers = workers

    def events(self, name: str) -> list[dict]:
        """The log events of a name; the log may end with the message of an error."""
        lines = [each for each in self.log.read_text().splitlines() if each.startswith("{")]
        return [each for each in map(json.loads, lines) if each["event"] == name]

    @property
    def workers(self) -> dict[int, int]:
        """The pid of each worker by its number, also of one that has died and is not replaced yet."""
        return {each["worker"]: each["pid"] for each in self.events("worker_started")}

    @property
    def shares(self) -> list[set[str]]:
        """The partitions of each worker since the latest rebalance."""
        ready = {each["worker"]: set(each["partitions"]) for each in self.events("ready")}
        return [each for _, each in sorted(ready.items())]

    def _poll_startup(self) -> bool:
        """Return whether all partitions are shared among all workers."""
        text = self._log_text()
        if not text.endswith("\n"):
            return False
        shares = self.shares
        partitions = self.config.partitions + 1
        return len(shares) == min(self._workers, partitions) and sum(map(len, shares)) == partitions

    def _command(self):
        return [*super()._command(), "--workers", str(self._workers)]


def runs(pid: int) -> bool:
    """Whether a process runs, and is not only waited for by its parent."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
