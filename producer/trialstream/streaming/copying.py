"""`copy_log`: the records of a log, appended to the topics of another prefix at a pace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

from trialstream_schemas.errors import ConfigError, SchemaError
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import LogCreated, SubjectEvent
from trialstream_schemas.wire.heads import KINDS, PREFIX_BYTES

from trialstream.config import Config
from trialstream.event_log.clients import open_producer
from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route, ensure_topics, partition_of, publish_schemas
from trialstream.streaming.decoding import decode
from trialstream.streaming.merging import Merging, Partition
from trialstream.streaming.pacing import Pace
from trialstream.streaming.scan import Taken
from trialstream.streaming.source import LogSource

__all__ = ["copy_log"]

# Records that wait for their acknowledgement; the writing of the next ones waits for them.
_UNACKED_RECORDS = 2000
# Maximum length of a key that is hashed, bytes: trialstream writes shorter ones, and the hash takes 0.3 s a megabyte.
_KEY_BYTES = 4096


class _Raw(NamedTuple):
    key: bytes | None
    value: bytes


class _RawScan:
    """Takes the records as they are, also those that are no events: they are dead letters of the copy, too."""

    def __init__(self, schemas: SchemaStore) -> None:
        self.skipped = 0
        self._schemas = schemas

    def scan(self, records: Records, start: int) -> Taken:
        """See `trialstream.streaming.scan.Scan`."""
        taken = Taken([], [], [], {})
        first = records.position_of(start)
        for position, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
            if position in records.notes:
                self.skipped += records.notes[position].reason is not None
            elif position >= first and not self._is_identity(value):
                # The event of the item, which nothing but `copy_log` looks at.
                taken.add(position, (None, None, None), "", cast("SubjectEvent", _Raw(key, value)))
        return taken

    def _is_identity(self, value: bytes) -> bool:
        if value[:PREFIX_BYTES] in KINDS:  # an event of a trial, project or group, by this version
            return False
        try:
            return isinstance(self._schemas.decode(value), LogCreated)
        except SchemaError:
            return False


async def copy_log(
    source: LogSource,
    to: Config,
    progress: Callable[[int, int], object],
    *,
    until: int | None = None,
    speed: float | None = None,
    timeout: float = 30.0,
) -> tuple[int, int]:
    """Append the records of a log to the topics of another prefix, up to its present end, in the order of their times.

    A copy that is repeated, for example after an interruption, sends records again; the fold skips repetitions.

    Args:
        source: The log, not opened yet.
        to: Where to append them. Missing topics are created.
        progress: Called now and then with the number of records that are sent, and of all records of the log.
        until: Append time before which records are copied, milliseconds since 1970 UTC; None for all.
        speed: 1 for the pace of the log, 10 for ten times faster; None for as fast as it goes.
        timeout: Seconds without a record that is expected after which an error is raised.

    Returns:
        Number of records that were sent, and of those left out because they cannot be read at all.

    Raises:
        ConfigError: The log would be copied to itself.
        KafkaUnavailable: No broker answered.
        LogMismatch: A part of the log is lost.
    """
    identity = await source.open()
    try:
        target = await ensure_topics(to)
        if target.log == identity.log:
            raise ConfigError(f"to: expected another prefix than that of the log, got {to.prefix!r}")
        routes = [Route(source.registry_topic, 0)]
        routes += [Route(source.trials_topic, number) for number in range(identity.partitions)]
        await source.begin(dict.fromkeys(routes, 0))
        ends = {**await source.ends(settled=True)}
        if until is not None:
            ends |= await source.offsets_at(until)
        await source.refresh()  # after the ends: a schema is published before the first event that is written with it
        await publish_schemas(to, source.texts)
        partitions = [Partition(route, _RawScan(source.schemas), 0, 0) for route in routes]
        for each in partitions:
            each.end = each.caught_up = ends[each.route]
        await source.begin(dict.fromkeys(routes, 0))
        merging = Merging(source, partitions, None, timeout)
        total = sum(ends.values())
        pace = Pace(speed)
        sent = await _copy(merging, source, to, target.partitions, lambda done: progress(done, total), pace)
        return sent, sum([each.scan.skipped for each in partitions])
    finally:
        await source.close()


async def _copy(
    merging: Merging, source: LogSource, to: Config, partitions: int, progress: Callable[[int], object], pace: Pace
) -> int:
    sent = 0
    async with open_producer(to) as producer:
        waiting = []
        while (events := await merging.next_events()) is not None:
            for item in events.items(partial(decode, source.schemas)):
                await pace.wait(item.timestamp)
                key, value = cast("_Raw", item.event)
                if item.topic == source.registry_topic:
                    topic, number = to.registry_topic, 0
                else:
                    topic = to.trials_topic
                    known = key is not None and len(key) <= _KEY_BYTES
                    number = partition_of(key or b"", partitions) if known else item.partition % partitions
                waiting.append(await producer.send(topic, value=value, key=key, partition=number))
                sent += 1
                if len(waiting) >= _UNACKED_RECORDS:
                    for each in waiting:
                        await each
                    waiting = []
                    progress(sent)
        for each in waiting:
            await each
    return sent
