"""Sends source runs to the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from trialstream_schemas.errors import InvalidValue, TrialStreamError
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.config import Config
from trialstream.imports.bounds import storable_name
from trialstream.imports.events import EVENT_BYTES, RunEvents, StreamEvents
from trialstream.imports.runs import SourceRun
from trialstream.kafka.protocol import KafkaProtocol
from trialstream.pipeline.append import Appender

__all__ = ["ImportedRun", "import_runs"]

T = TypeVar("T")
# Source runs that are looked up together, and rows that are read together in another thread.
_RUNS = 100
_ROWS = 1000


@dataclass
class ImportedRun:
    """Result of the import of a source run.

    Attributes:
        source: Id of the source run.
        name: Its name.
        uid: Uid of the trial; None if it was not created.
        rows: Number of rows that the source has.
        new: Number of rows that this import has sent.
        left_out: What has no place in a trial → how often it was found.
        error: Why the import of this run ended early; None if it did not. The other runs are imported nevertheless.
    """

    source: str
    name: str
    uid: str | None = None
    rows: int = 0
    new: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    error: str | None = None


async def import_runs(
    config: Config,
    runs: Iterable[SourceRun],
    *,
    project: str | None = None,
    group: str | None = None,
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> list[ImportedRun]:
    """Import source runs as trials. It may be interrupted and run again; what the log has is not sent again.

    A source run whose trial exists gets the rows that were added since, wherever its trial is. All times are those of
    the source. A consumer must run: the import reads what earlier ones have done, and waits until all is folded.

    Args:
        config: Where the servers are.
        runs: The source runs.
        project: Name of the project of new trials, which is created if need be; the one of the source if not given.
        group: Name of the group of new trials, which is created if need be.
        progress: Called with the step, and how much of the streams is read, of how much that is known so far.

    Returns:
        What was done, for each source run.

    Raises:
        KafkaUnavailable: Kafka does not answer.
        MongoUnavailable: MongoDB does not answer.
        ProjectionBehind: No consumer has folded the log in time.
        InvalidValue: A project or group has no valid name, or an event is too large for its topic.
        TrialStreamError: The error of the source, once the runs before it are imported.
    """
    imported: list[ImportedRun] = []
    left = _Guarded(runs)
    async with KafkaProtocol(config) as protocol, Appender(config) as log:
        places = _Places(protocol, project, group)
        importer = _Importer(log, progress)
        while chunk := await run_sync(_take, left, _RUNS):
            found = await _trials(protocol, chunk)
            reports = []
            for run in chunk:
                report = ImportedRun(run.source, run.name)
                reports.append(report)
                try:
                    await importer.run(run, found.get(run.source), await places.of(run), report)
                except (TrialStreamError, OSError) as error:
                    if log.failed:
                        raise
                    report.error = str(error)
                report.left_out = dict(run.left_out)
            await log.wait_acked()
            found = await _trials(protocol, chunk)
            for report in reports:
                if (trial := found.get(report.source)) is not None:
                    report.uid = trial.uid
                elif report.error is None:
                    report.error = "the fold refused its creation: see `trialstream dead-letters`"
            imported += reports
    if left.error is not None:
        raise left.error
    return imported


class _Guarded(Iterator[SourceRun]):
    """Source runs up to the first one that cannot be read: those before it are imported first.

    Args:
        runs: The source runs.

    Attributes:
        error: Why the next one cannot be read; None until then.
    """

    def __init__(self, runs: Iterable[SourceRun]) -> None:
        self.error: TrialStreamError | None = None
        self._runs = iter(runs)

    def __next__(self) -> SourceRun:
        try:
            return next(self._runs)
        except TrialStreamError as error:
            self.error = error
        except OSError as error:
            self.error = InvalidValue(f"expected files that can be read: {error}")
        raise StopIteration


def _take(items: Iterator[T], count: int) -> list[T]:
    return list(islice(items, count))


async def _trials(protocol: KafkaProtocol, runs: list[SourceRun]) -> dict[str, Trial]:
    """Return the trials of source runs by id; only the fields that an import needs."""
    sources = list({run.source for run in runs})
    found = await protocol.fetch_trials(
        {"metadata.imported.source": {"$in": sources}},
        fields=["parameters", "tags", "metadata", "writers", "state_version"],
        sort="-created",
        latest=True,
    )
    return {trial.metadata["imported"]["source"]: trial for trial in found}


class _Places:
    """Projects and groups of new trials, each created once."""

    def __init__(self, protocol: KafkaProtocol, project: str | None, group: str | None) -> None:
        self._protocol = protocol
        self._project, self._group = project, group
        self._known: dict[str | None, tuple[str | None, str | None]] = {}

    async def of(self, run: SourceRun) -> tuple[str | None, str | None]:
        """Return the uids of the project and of the group of a new trial."""
        name = self._project or (run.project and storable_name(run.project))
        if name not in self._known:
            project_id = None if name is None else (await self._protocol.new_project(Project(name=name))).uid
            group_id = None
            if self._group is not None:
                wanted = TrialGroup(name=self._group, project_id=project_id)
                await self._protocol.new_trial_group(wanted)
                group_id = wanted.uid
            self._known[name] = project_id, group_id
        return self._known[name]


class _Importer:
    """Sends the events of source runs, one run after the other."""

    def __init__(self, log: Appender, progress: Callable[[str, int, int], object]) -> None:
        self._log = log
        self._progress = progress
        self._done = self._total = 0

    async def run(
        self, run: SourceRun, found: Trial | None, place: tuple[str | None, str | None], report: ImportedRun
    ) -> None:
        """Send the events of a source run that its trial does not have yet."""
        events = RunEvents(run, found, *place)
        for each in events.before():
            await self._log.put(each, EVENT_BYTES)
        begun, size = self._done, sum(stream.size for stream in run.streams)
        self._total += size
        streams: dict[str, list[Any]] = {}
        try:
            for stream in run.streams:
                rows = StreamEvents(run, stream, found)
                made = rows.events(events.address)
                before = self._done
                while batch := await run_sync(_take, made, _ROWS):
                    for event, bytes_, at in batch:
                        if event is not None:
                            await self._log.put(event, bytes_)
                        self._done = before + min(at, stream.size)
                    self._progress("importing", self._done, self._total)
                self._done = before + stream.size
                streams[rows.id] = rows.state
                report.rows += rows.rows
                report.new += rows.new
        finally:
            self._done = begun + size
        for each in events.after(streams):
            await self._log.put(each, EVENT_BYTES)
        self._progress("importing", self._done, self._total)
