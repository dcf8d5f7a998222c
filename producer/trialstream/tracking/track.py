"""`track`: opens a trial for training code, in a block or without one."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from trialstream_schemas.errors import InvalidType, ItemNotFound
from trialstream_schemas.model.attempts import MAX_KEY_BYTES, MAX_RANKS, Attempt
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.config import Config, check_timeout
from trialstream.tracking.capture import Captures, checked_capture
from trialstream.tracking.context import enter
from trialstream.tracking.faults import Faults
from trialstream.tracking.handle import ENVIRONMENT, Connection, Handle, Mark
from trialstream.tracking.launch import Launch, detect
from trialstream.tracking.resuming import find_mark
from trialstream.tracking.tracker import Tracker
from trialstream.tracking.trackers import AsyncTracker, SyncTracker
from trialstream.tracking.values import plain_name, plain_values

if TYPE_CHECKING:
    from trialstream.kafka.protocol import LoggingProtocol

__all__ = ["Attachment", "track"]

logger = logging.getLogger("trialstream")
# Longest text of an environment variable is 128 KiB on Linux; all variables share the space of the arguments.
_MAX_OFFER = 64 * 1024
# Process, run and definition → numbers of the trials that it begins; a forked child begins with the first one.
_begun: dict[tuple[int, str, str], Iterator[int]] = {}


class _Begun(NamedTuple):
    """A trial that was started.

    Attributes:
        handle: The trial, and what other processes need to log to it.
        place: Run, rank and number of ranks of this process; without a rank outside of a distributed run.
        resume: The checkpoint from which the trial was resumed, or None.
    """

    handle: Handle
    place: Launch
    resume: Mark | None


class _Block(ABC):
    """A tracker that is yet to be opened: a block to enter, plain or `async`, or `start`.

    Args:
        connection: The place to which the tracker logs.
        capture: Kinds of captures.
        faults: Takes the errors.
    """

    def __init__(self, connection: Connection, capture: frozenset[str], faults: Faults) -> None:
        self._connection = connection
        self._capture = capture
        self._faults = faults
        self._tracker: SyncTracker | AsyncTracker

    @abstractmethod
    async def _begin(self, protocol: LoggingProtocol) -> _Begun:
        """Create, find and start the trial, over an open protocol."""

    def start(self) -> SyncTracker:
        """Open the tracker without a block; call its `finish` at the end.

        Returns:
            The tracker.

        Raises:
            KafkaUnavailable: No broker answers, and the setting `spool` is `off`.
            LogMismatch: MongoDB belongs to another log than Kafka, or the topics were recreated.
            ItemNotFound: There is no such trial to resume.
        """
        protocol = self._make_protocol()
        protocol.lifecycle.open_blocking()
        try:
            begun = protocol.lifecycle.run(self._begin, protocol)
            tracker = self._tracker = SyncTracker(protocol, begun.handle, self._faults, begun.place, begun.resume)
            self._enter(tracker, begun)
        except BaseException:
            protocol.lifecycle.close_blocking(failed=True)
            raise
        return tracker

    def __enter__(self) -> SyncTracker:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        assert isinstance(self._tracker, SyncTracker)
        self._tracker.finish(exc_val)

    async def __aenter__(self) -> AsyncTracker:
        protocol = self._make_protocol()
        await protocol.open()
        try:
            begun = await self._begin(protocol)
            tracker = self._tracker = AsyncTracker(protocol, begun.handle, self._faults, begun.place, begun.resume)
            self._enter(tracker, begun)
        except BaseException:
            await protocol.close(failed=True)
            raise
        return tracker

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        assert isinstance(self._tracker, AsyncTracker)
        await self._tracker.finish(exc_val)

    def _enter(self, tracker: Tracker, begun: _Begun) -> None:
        """Make a tracker the current one, of this context and for the processes that this one starts."""
        tracker.at_end(enter(tracker))
        tracker.at_end(_offer(begun.handle))
        if self._capture:
            tracker.faults.call("capture", Captures(self._capture, begun.place).start, tracker)

    def _make_protocol(self) -> LoggingProtocol:
        return self._connection.make_protocol()


class track(_Block):  # noqa: N801 (used like a function)
    """Track a trial: `with ts.track("mnist") as t:`, `async with`, or `t = ts.track("mnist").start()`.

    Entering the block connects, creates the project, the group and the trial, and starts the trial; it waits for no
    server beyond the connection. Leaving it ends the trial, with the exception if there is one: `Completed`,
    `Exception`, or `Interrupted` at Ctrl-C, cancellation and SIGTERM, for which the block gets a `SystemExit` in the
    main thread if the program has no handler of its own. A tracker without a block ends with the process at the latest.

    In a distributed run every rank runs the same line, and one trial results: the run is that of `run_id`,
    `TRIALSTREAM_RUN_ID` or of the launcher (torchrun, SLURM, MPI, JSM). All ranks must pass the same definition: name,
    version, parameters, project and group.

    Args:
        name: Name of the trial.
        project: Name of its project, which is created if it does not exist; None for none.
        group: Name of its group, which is created if it does not exist; None for none.
        parameters: Parameters by name, or an object with fields: a dataclass, Namespace, configuration and so on.
            Values of any type are converted (docs/tracking.md has the table). Parameters are part of the definition.
        tags: Tags: names, or values by name.
        metadata: Metadata by name.
        version: Version of the code or the data.
        description: Any text.
        run_id: Id that all processes of a run share; by default that of the environment.
        ranks: Whether the ranks of a distributed run share the trial; False for a trial of this process alone, such as
            that of a search whose workers are ranks of a job.
        resume: `"auto"` resumes the latest trial of the same definition that is not completed and that no other process
            runs, or creates one. A uid resumes that trial. The path of a checkpoint that `Tracker.checkpoint` has
            marked resumes its trial from its step: rows of later steps are superseded, and none is deleted.
        capture: What is captured beside the log calls: True for all, False for nothing, or names of `capture.KINDS`.
        timeout: Maximum duration of any wait, seconds.
        url: A place without servers, as for `connect`: `memory:NAME` in tests. None for Kafka and MongoDB.
        **settings: Settings as for `connect`, such as `kafka`, `mongo`, `prefix`, `offline`.

    Raises:
        ConfigError: A setting is invalid; the message names it.
        InvalidType: An argument has a wrong type; the message names it.
        InvalidValue: An argument has a wrong value; the message names it.
    """

    def __init__(
        self,
        name: str,
        *,
        project: str | None = None,
        group: str | None = None,
        parameters: object = None,
        tags: Iterable[str] | Mapping[str, Any] = (),
        metadata: object = None,
        version: str | float | None = None,
        description: str = "",
        run_id: str | None = None,
        ranks: bool = True,
        resume: str | os.PathLike[str] | None = None,
        capture: bool | Iterable[str] = True,
        timeout: float = 30.0,
        url: str | None = None,
        **settings: Any,
    ) -> None:
        place = Config.from_env(**settings) if url is None else url
        connection = Connection(place, check_timeout(timeout), {} if url is None else settings)
        super().__init__(connection, checked_capture(capture), Faults())
        lost = self._faults.lost
        self._launch = detect(run_id=run_id) if ranks else Launch(run_id)
        self._names_run = run_id is not None
        self._project = None if project is None else Project(name=project)
        project_id = None if self._project is None else self._project.uid
        self._group = None if group is None else TrialGroup(name=group, project_id=project_id)
        self._trial = Trial(
            name=name,
            version=version,  # type: ignore[arg-type]  # a number becomes its text
            description=description,
            parameters=plain_values(parameters, "parameters", lost),
            metadata=plain_values(metadata, "metadata", lost),
            tags=plain_values(_tags(tags), "tags", lost),
            project_id=project_id,
            group_id=None if self._group is None else self._group.uid,
        )
        self._resume = None if resume is None else os.fspath(resume)

    @classmethod
    def attach(cls, handle: Handle | None = None, *, capture: bool | Iterable[str] = False) -> Attachment:
        """Log to the trial of another process: `with ts.track.attach() as t:`.

        The end of this process does not end the trial.

        Args:
            handle: What `Tracker.handle` has returned there; None for the trial of the process that has started this
                one, forked or not. Without a handle, passwords are those of the environment.
            capture: As for `track`.

        Returns:
            A block to enter, as of `track`.

        Raises:
            ItemNotFound: There is no handle, and no process with a tracker has started this one.
        """
        if handle is None:
            text = os.environ.get(ENVIRONMENT)
            if text is None:
                raise ItemNotFound(
                    "attach: expected a process that was started while a tracker was open, or the handle of a tracker"
                )
            handle = Handle.from_text(text)
        return Attachment(handle, checked_capture(capture))

    async def _begin(self, protocol: LoggingProtocol) -> _Begun:
        launch = self._launch
        mark = None
        if self._resume is not None:
            mark = await find_mark(
                protocol,
                self._resume,
                self._trial,
                can_read=self._connection.can_read,
                shares_run=launch.run is not None,
            )
        trial = await self._create(protocol) if mark is None else mark.trial
        # Without a run, this process has the trial for itself.
        place = launch if launch.run is not None and launch.rank is not None else Launch()
        rank = place.rank or 0
        key = protocol.writer if place.rank is None else _attempt_key(launch)
        # A rank that starts late may find a checkpoint of its own attempt, which then resumes from no earlier one.
        earlier = None if mark is not None and mark.attempt == key else mark
        attempt = Attempt(
            key,
            # Further ranks only help: the trial ends without them.
            rank=rank if rank < MAX_RANKS else None,
            world_size=min(place.world_size or 1, MAX_RANKS),
            host=socket.gethostname(),
            resume_step=None if earlier is None else earlier.step,
            resumes=None if earlier is None else earlier.attempt,
        )
        await protocol.log_trial_start(trial, attempt=attempt)
        return _Begun(Handle(trial, attempt.key, self._connection), place, mark)

    async def _create(self, protocol: LoggingProtocol) -> Trial:
        """Create the trial, its project and its group, without waiting for their outcomes."""
        if self._project is not None:
            await protocol.new_project(self._project, wait=False)
        if self._group is not None:
            await protocol.new_trial_group(self._group, wait=False)
        if self._launch.run is None and self._launch.rank == 0 and self._launch.world_size != 1:
            logger.warning(
                "each of %d ranks creates a trial of its own, since the launcher has no id of the run: set "
                "TRIALSTREAM_RUN_ID to the same text for all ranks",
                self._launch.world_size,
            )
        run = self._launch.run
        if run is not None and not self._names_run:
            run = _numbered(run, self._trial)
        trial = await protocol.new_trial(self._trial, auto_increment=True, wait=False, run_id=run)
        assert trial is not None  # with auto_increment
        return trial


class Attachment(_Block):
    """A tracker of another process's trial; made by `track.attach`.

    Args:
        handle: The trial.
        capture: Kinds of captures.
    """

    def __init__(self, handle: Handle, capture: frozenset[str]) -> None:
        super().__init__(handle.connection, capture, Faults())
        self._handle = handle

    async def _begin(self, protocol: LoggingProtocol) -> _Begun:
        handle = self._handle
        # Without a rank, so that its end does not end the trial.
        await protocol.log_trial_start(handle.trial, attempt=Attempt(handle.attempt, host=socket.gethostname()))
        return _Begun(handle, Launch(), None)


def _offer(handle: Handle) -> Callable[[], None]:
    """Make the trial known to the processes that this one starts; return a function that ends this."""
    text = handle.to_text()
    if len(text) > _MAX_OFFER:
        return lambda: None
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = text

    def withdraw() -> None:
        if os.environ.get(ENVIRONMENT) != text:
            return
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before

    return withdraw


def _numbered(run: str, trial: Trial) -> str:
    """Add to a run how often this process has begun a trial of this definition in it, from the second time on.

    Every rank runs the same lines, so the ranks agree on the number, and a restart begins with the first one again.
    """
    number = next(_begun.setdefault((os.getpid(), run, trial.hash), itertools.count(1)))
    return run if number == 1 else f"{run} {number}"


def _attempt_key(launch: Launch) -> str:
    """Make the key that all ranks of one start share: the run is part of it, since a resume may be another run."""
    key = f"{launch.run} {launch.attempt or '1'}"
    return key if len(key.encode()) <= MAX_KEY_BYTES else hashlib.sha256(key.encode()).hexdigest()


def _tags(tags: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(tags, Mapping):
        return dict(tags)
    if isinstance(tags, str):  # its letters are no tags
        raise InvalidType(f"tags: expected a list of names or a dict, got the str {tags!r}")
    return {plain_name(tag): True for tag in tags}
