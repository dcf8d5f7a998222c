"""The events of a source run. Each is the same at every import, so the fold takes it once."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.aggregators import timeseries_aggregator, value_aggregator
from trialstream_schemas.model.identity import digest
from trialstream_schemas.model.times import check_micros, from_micros
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import size
from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    Error,
    MetadataLogged,
    MetricsLogged,
    TagsAdded,
    TrialCreated,
    TrialEvent,
    TrialFinished,
    TrialStarted,
)
from trialstream_schemas.wire.limits import MAX_ERROR_MESSAGE

from trialstream.imports.bounds import storable, storable_name, storable_rows
from trialstream.imports.runs import SourceRun, Stream
from trialstream.kafka.commands import create_trial

__all__ = ["EVENT_BYTES", "RunEvents", "StreamEvents"]

EVENT_BYTES = 1024
"""Estimated memory of an event without the values of a user, bytes."""

# Each stream is a writer of the trial, which has at most 16,384 (`MAX_WRITERS`), and their digests are a
# value of its metadata, which may take 512 KiB.
_MAX_STREAMS = 4000


class RunEvents:
    """Makes the events of a source run, other than its rows.

    Args:
        run: The source run.
        found: The trial of an earlier import, or None.
        project_id: Uid of the project of a new trial.
        group_id: Uid of the group of a new trial.

    Attributes:
        address: Address of the trial.
        created: The creation of a new trial; None if there is one.
    """

    created: TrialCreated | None = None

    def __init__(self, run: SourceRun, found: Trial | None, project_id: str | None, group_id: str | None) -> None:
        self._run, self._found = run, found
        out = run.left_out
        self._facts = {
            "parameters": storable(run.parameters, "parameters", out),
            "tags": storable(run.tags, "tags", out),
            "metadata": storable({key: x for key, x in run.metadata.items() if key != "imported"}, "metadata", out),
        }
        if len(run.streams) > _MAX_STREAMS:
            raise InvalidValue(f"{run.source}: expected at most {_MAX_STREAMS} series, got {len(run.streams)}")
        self.time = _checked_time(run.created, run.source)
        if found is not None:
            self.address = found.uid
            return
        definition = Trial(
            name=storable_name(run.name),
            description=run.description.replace("\0", " ")[:100_000],
            project_id=project_id,
            group_id=group_id,
            parameters=self._facts["parameters"],
            tags=self._facts["tags"],
            metadata={**self._facts["metadata"], "imported": {"source": run.source}},
        )
        request = digest("import", run.source)[:24]
        self.created = create_trial(
            self._writer("creation"),
            replace(definition, request=request, created=from_micros(self.time)),
            auto_increment=True,
        )
        self.address = self.created.trial

    def _writer(self, *parts: Any) -> str:
        return f"import-{digest(self._run.source, *parts)}"

    def before(self) -> Iterator[TrialEvent]:
        """Yield the events that come before the rows, which the trial does not have yet."""
        writer = self._writer("start")
        if self._found is None:
            assert self.created is not None
            yield self.created
        if self._found is None or writer not in self._found.writers:
            yield TrialStarted(trial=self.address, writer=writer, seq=1, time=self.time)
        if self._found is not None:
            for name, kind in (("parameters", ArgumentsLogged), ("tags", TagsAdded), ("metadata", MetadataLogged)):
                held = getattr(self._found, name)
                new = {key: x for key, x in self._facts[name].items() if digest(x) != _digest(held, key)}
                if new:
                    yield self._fact(kind, new)

    def _fact(self, kind: type[ArgumentsLogged | TagsAdded | MetadataLogged], values: dict[str, Any]) -> TrialEvent:
        version = 0 if self._found is None else self._found.state_version
        writer = self._writer(kind.__name__, version, values)
        more: dict[str, Any] = {"aggregator": value_aggregator} if kind is MetadataLogged else {}
        return kind(trial=self.address, writer=writer, seq=1, time=self.time, values=values, **more)

    def after(self, streams: dict[str, list[Any]]) -> Iterator[TrialEvent]:
        """Yield the events that come after the rows.

        Args:
            streams: By id of the stream, the number of its rows and their digest.
        """
        imported = {"source": self._run.source, "streams": streams}
        if self._found is None or self._found.metadata.get("imported") != imported:
            yield self._fact(MetadataLogged, {"imported": imported})
        end = self._run.end
        if end is None:
            return
        writer = self._writer("end", *end)
        if self._found is None or writer not in self._found.writers:
            text = (end.error or "")[:MAX_ERROR_MESSAGE].encode(errors="replace").decode()
            error = None if end.error is None else Error("", text, "")
            time = _checked_time(end.time, self._run.source)
            yield TrialFinished(
                trial=self.address, writer=writer, seq=1, time=time, interrupted=end.interrupted, error=error
            )


def _digest(held: dict[str, Any], key: str) -> str | None:
    return digest(held[key]) if key in held else None


def _checked_time(time: int, source: str) -> int:
    try:
        check_micros(time)
    except InvalidValue as error:
        raise InvalidValue(f"{source}: {error}") from None
    return time


class StreamEvents:
    """Makes the events of the rows of a stream: each row is one event, and its place in the stream is the `seq`.

    An event of several rows would take less of the log, but its rows would depend on how much of a growing file an
    import has seen, and two imports would not send the same events.

    Args:
        run: The source run.
        stream: One of its streams.
        found: The trial of an earlier import, or None.

    Attributes:
        id: Id of the stream in the trial's metadata.
        rows: Number of rows that were read.
        new: Number of rows that the trial does not have yet.
    """

    def __init__(self, run: SourceRun, stream: Stream, found: Trial | None) -> None:
        self._run, self._stream = run, stream
        key = digest(run.source, "rows", stream.key)
        self.id = key[:16]
        self._writer = f"import-{key}"
        self._mark = 0 if found is None else found.writers.get(self._writer, 0)
        imported = {} if found is None else found.metadata.get("imported") or {}
        self._known: list[Any] = (imported.get("streams") or {}).get(self.id) or [0, ""]
        self._hash = hashlib.blake2b(digest_size=16)
        self.rows = self.new = 0

    @property
    def state(self) -> list[Any]:
        """Number of rows read so far, and their digest."""
        return [self.rows, self._hash.hexdigest()]

    def events(self, address: str) -> Iterator[tuple[MetricsLogged | None, int, int]]:
        """Yield the events of the rows that the trial does not have yet.

        Args:
            address: Address of the trial.

        Yields:
            The event, or None for a row that the trial has; its estimated size in bytes; how much of the stream is
            read.

        Raises:
            InvalidValue: The rows that were imported before have changed.
        """
        for row in storable_rows(self._stream.rows(), self._run.left_out):
            self.rows += 1
            self._hash.update(_bytes(row.step, row.values))
            if self.rows == self._known[0] and self.state != self._known:
                raise InvalidValue(self._changed("they have other steps, names or values now"))
            if self.rows <= self._mark:
                yield None, 0, row.at
                continue
            self.new += 1
            step = row.step
            event = MetricsLogged(
                trial=address,
                writer=self._writer,
                seq=self.rows,
                time=row.time,
                aggregator=timeseries_aggregator,
                names=tuple(row.values),
                times=(0,),
                columns=[(x,) for x in row.values.values()],
                steps=(step,) if isinstance(step, int) else (),
                float_steps=(step,) if isinstance(step, float) else (),
                text_steps=(step,) if isinstance(step, str) else (),
            )
            yield event, EVENT_BYTES + size(dict(row.values)), row.at
        if self.rows < max(self._mark, self._known[0]):
            raise InvalidValue(self._changed(f"there are {self.rows} rows now"))

    def _changed(self, what: str) -> str:
        count = max(self._mark, self._known[0])
        return (
            f"{self._run.source}: {self._stream.key}: expected the {count} rows that were imported before, and more; "
            f"{what}: the log keeps the old ones"
        )


def _bytes(step: Any, values: dict[str, float]) -> bytes:
    """Bytes of a row, for the digest."""
    names = "\0".join(values).encode()
    return b"%r\0%d\0%b%b" % (step, len(names), names, struct.pack(f"<{len(values)}d", *values.values()))
