"""The state of the servers for alerts: lag, dead letters, and the time up to which the projection is complete.

A trial looks silent while the projection is behind, or while nobody reaches Kafka. So silence is measured up to the
latest time at which the ends of the log were read that the projection has reached by now, and not up to now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from trialstream.config import Config
from trialstream.event_log.topics import Route, trial_ends
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.dead_letters import DeadLetter, latest_dead_letters
from trialstream_consumer.projection.ownership import live_namespace

from trialstream_console.operations.progress import lags, read_folded_offsets

__all__ = ["Servers"]

# Ends of the log that the projection has not reached: older ones are thinned out, which makes times coarser.
_MAX_SAMPLES = 1000


class _Sample(NamedTuple):
    """The ends of the log at a time."""

    time: datetime
    ends: Mapping[Route, int]


class Servers:
    """The state of the servers. Belongs to one event loop.

    Args:
        config: Where they are.
        behind: Ends of the log that were not folded at an earlier time, as `State.behind`.

    Attributes:
        shown: The time up to which the projection is complete; None if that is unknown.
        events: Number of events that are not folded, as of the last look.
    """

    def __init__(self, config: Config, behind: tuple[str, dict[str, int]] | None) -> None:
        self.shown: datetime | None = None
        self.events = 0
        self._config = config
        self._connection = Connection(config)
        self._samples: deque[_Sample] = deque()
        if behind is not None:
            ends = {_route(place): end for place, end in behind[1].items()}
            self._samples.append(_Sample(datetime.fromisoformat(behind[0]), ends))

    @property
    def behind(self) -> tuple[str, dict[str, int]] | None:
        """The earliest ends of the log that are not folded, for `State.behind`."""
        if not self._samples:
            return None
        earliest = self._samples[0]
        return earliest.time.isoformat(), {f"{topic}/{number}": end for (topic, number), end in earliest.ends.items()}

    @property
    def seconds(self) -> float:
        """Time for which the projection has been behind, seconds: since the earliest ends that it has not reached."""
        return (datetime.now(UTC) - self._samples[0].time).total_seconds() if self._samples else 0.0

    async def look(self) -> None:
        """Read the ends of the log and the checkpoints.

        Raises:
            KafkaUnavailable: No broker answered, or the right Describe is missing.
            MongoUnavailable: MongoDB did not answer.
        """
        time = datetime.now(UTC)
        ends = await trial_ends(self._config)
        folded = await read_folded_offsets(self._connection)
        self.events = sum(lags(ends, folded).values())
        self._samples.append(_Sample(time, ends))
        while self._samples and not any(lags(self._samples[0].ends, folded).values()):
            self.shown = self._samples.popleft().time
        if len(self._samples) > _MAX_SAMPLES:
            self._samples = deque(list(self._samples)[::2])

    async def latest_dead_letter(self) -> DeadLetter | None:
        """Read the latest dead letter; None if there is none.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        namespace = await live_namespace(self._connection)
        return next(iter(await latest_dead_letters(self._connection, namespace, 1)), None)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _route(place: str) -> Route:
    """Return the partition that `State.behind` names as `<topic>/<number>`."""
    topic, _, number = place.rpartition("/")
    return Route(topic, int(number))
