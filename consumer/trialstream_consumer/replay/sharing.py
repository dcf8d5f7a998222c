"""Sharing of a replay: other processes fold some of its partitions.

The process of a replay divides the partitions (`divide`), folds its own share, and starts a process for each other
share (`share.py`), which takes the partitions of its share over. The two exchange lines of JSON:

- stdin: one line, the share;
- stdout: the offsets that are reached, log events, and an error at last.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeAlias

import structlog
from aiokafka import TopicPartition
from trialstream.config import Config
from trialstream_schemas import errors
from trialstream_schemas.errors import ConfigError, TrialStreamError
from trialstream_schemas.messages import counted
from trialstream_schemas.storage.collections import Namespace

from trialstream_consumer.processes import exit_reason, lines, open_child

__all__ = ["Report", "Share", "WorkerDied", "divide", "fold_in_process"]

Report: TypeAlias = Callable[[TopicPartition, int], None]
"""Called with a partition and the offset up to which it is folded."""

_CHILD = "trialstream_consumer.replay.share"


class WorkerDied(TrialStreamError):
    """A process that folded a share of a replay was killed or failed."""


@dataclass(frozen=True)
class Share:
    """The part of a replay that one process folds.

    Attributes:
        config: Settings with the addresses of the servers and the names of the topics.
        namespace: Place of the projection.
        partitions: Number of partitions of the trials topic.
        ends: The offset after the last record to fold, by partition.
    """

    config: Config
    namespace: Namespace
    partitions: int
    ends: Mapping[TopicPartition, int]

    def to_json(self) -> str:
        """Return the share as one line.

        Raises:
            ConfigError: The settings have a function.
        """
        if self.config.kafka_token is not None:
            raise ConfigError(
                "kafka_token: a function cannot be passed on to the processes of several workers: set "
                "kafka_token_file, or use one worker"
            )
        ends = [[*each, end] for each, end in self.ends.items()]
        return json.dumps([asdict(self.config), self.namespace, self.partitions, ends], default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse what `to_json` returned."""
        config, namespace, partitions, ends = json.loads(text)
        found = {TopicPartition(topic, number): end for topic, number, end in ends}
        return cls(Config(**config), Namespace(*namespace), partitions, found)


def divide(left: Mapping[TopicPartition, int], shares: int, first: TopicPartition) -> list[list[TopicPartition]]:
    """Divide partitions into shares with about the same number of records.

    Args:
        left: Number of records to fold, by partition.
        shares: Maximum number of shares.
        first: A partition that belongs to the first share.

    Returns:
        The partitions of each share; those without records to fold are in none, except `first`.
    """
    made: list[list[TopicPartition]] = [[first], *([] for _ in range(shares - 1))]
    sizes = [left.get(first, 0), *[0] * (shares - 1)]
    for each in sorted(left.keys() - {first}, key=lambda each: (-left[each], each)):
        if left[each] > 0:
            smallest = sizes.index(min(sizes))
            made[smallest].append(each)
            sizes[smallest] += left[each]
    return [each for each in made if each]


async def fold_in_process(share: Share, report: Report) -> None:
    """Fold a share in another process.

    Args:
        share: The share.
        report: Called after each batch.

    Raises:
        ConfigError: The settings have a function.
        Fenced: Another process has taken a partition over.
        WorkerDied: The process was killed or failed.
        TrialStreamError: The errors of a replay: those of `Replay.fold_to`.
    """
    error: TrialStreamError | None = None
    settings = share.to_json()
    async with open_child(_CHILD, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        await process.stdin.send(f"{settings}\n".encode())
        async for line in lines(process.stdout):
            kind, content = json.loads(line)
            if kind == "reached":
                topic, number, offset = content
                report(TopicPartition(topic, number), offset)
            elif kind == "log":
                _log(content)
            else:
                error = getattr(errors, kind, TrialStreamError)(content)
        code = await process.wait()
    if error is not None:
        raise error
    if code != 0:
        raise WorkerDied(
            f"the process that folded {counted(len(share.ends), 'partition')} into {share.namespace} ended "
            f"({exit_reason(code)}): the live projection is unchanged; run this command again"
        )


def _log(event: dict[str, Any]) -> None:
    logger = structlog.get_logger(__name__)
    getattr(logger, event.pop("level"))(event.pop("event"), **event)
