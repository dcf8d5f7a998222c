"""The read-only protocol: reads the live projection, or a named one, with MongoDB alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from trialstream_schemas.errors import ItemNotFound, ProjectionIsReadOnly
from trialstream_schemas.model.trial import Trial

from trialstream.config import Config, check_timeout
from trialstream.reading.budget import within
from trialstream.reading.checks import checked, decided_uid
from trialstream.reading.mongo import MongoReader
from trialstream.reading.protocol import ReadingProtocol
from trialstream.reading.reader import Collection, Read, Reader
from trialstream.reading.uri import driver_options
from trialstream.runtime.lifecycle import Lifecycle
from trialstream.runtime.origin import UserLine

__all__ = ["ReadOnlyProtocol"]

T = TypeVar("T")


def _settings_of(config: Config) -> str:
    """Return the names of the settings that make a protocol read-only."""
    return "`projection` and TRIALSTREAM_PROJECTION" if config.projection else "`read_only` and TRIALSTREAM_READ_ONLY"


def _refused(method: str) -> Callable[..., Coroutine[Any, Any, NoReturn]]:
    """Make a method that refuses to log."""

    async def refuse(self: ReadOnlyProtocol, *_: Any, **__: Any) -> NoReturn:
        self._refuse(method)

    return refuse


class ReadOnlyProtocol(ReadingProtocol):
    """Reads, and refuses to log; made by `connect(read_only=True)` and `connect(projection=...)`.

    It needs MongoDB only, or what another reader reads: it makes no connection to Kafka, creates nothing, and shows the
    documents as they are, without waiting for events that other writers have logged. Entering it raises `ItemNotFound`
    if the named projection does not exist or is not finished.

    Args:
        config: Where MongoDB is, and the name of the projection, if it is not the live one.
        timeout: Maximum duration of any wait, seconds.
        make_reader: Makes the reader, in the I/O thread; None for that of MongoDB.

    Raises:
        ConfigError: A setting is invalid; the message names it.
    """

    _session: _ReadOnlySession

    def __init__(
        self, config: Config, *, timeout: float = 30.0, make_reader: Callable[[], Reader] | None = None
    ) -> None:
        seconds = check_timeout(timeout)
        if make_reader is None:
            driver_options(config)  # checks them
            make_reader = functools.partial(MongoReader, config, seconds)
        super().__init__(_ReadOnlySession(config, seconds, make_reader))
        self._config = config

    async def open(self) -> None:
        """Open the protocol; further errors as for `Protocol.open`.

        Raises:
            ItemNotFound: The named projection does not exist or is not finished.
            MongoUnavailable: MongoDB does not answer.
        """
        await self._session.lifecycle.open()

    async def close(self, *, failed: bool = False) -> None:
        """Close the protocol: see `Protocol.close`."""
        await self._session.lifecycle.close(failed=failed)

    async def _history_uid(self, trial: Trial) -> str:
        uid = checked(trial, Trial, "trial").uid
        if trial.request is not None:
            return await self.created_uid(uid)
        if not self._session.knows("trials", uid):
            raise ItemNotFound(f"there is no trial {trial.name!r} ({uid})")
        return uid

    async def created_uid(self, address: str) -> str:
        """Read the uid of the trial that a request has created.

        Args:
            address: Uid of the trial before its revision was decided: `<hash>~<request>`.

        Returns:
            The uid, with the revision that the log has decided.

        Raises:
            ItemNotFound: The request is not decided yet, or it was refused.
            MongoUnavailable: MongoDB does not answer.
        """
        session = self._session
        return decided_uid(address, await session.read(lambda: session.reader.outcome(address)))

    @property
    def log(self) -> Any:
        """The calls that log, as `KafkaProtocol.log`: each is refused."""
        return _RefusedCalls(self)

    def _refuse(self, method: str) -> NoReturn:
        """Refuse a method that would log."""
        projection = self._config.projection
        what = f"projection {projection!r}" if projection else "this protocol"
        raise ProjectionIsReadOnly(
            f"{method}: {what} is read-only: to log, connect without {_settings_of(self._config)}"
        )

    @property
    def writer(self) -> NoReturn:
        """Refuse: nothing is written.

        Raises:
            ProjectionIsReadOnly: The protocol is read-only, so every access raises this.
        """
        self._refuse("writer")

    def statistics(self) -> NoReturn:
        """Refuse: nothing is queued.

        Raises:
            ProjectionIsReadOnly: The protocol is read-only, so every call raises this.
        """
        self._refuse("statistics")

    log_trial_start = _refused("log_trial_start")
    log_trial_finish = _refused("log_trial_finish")
    log_trial_chrono_start = _refused("log_trial_chrono_start")
    log_trial_chrono_finish = _refused("log_trial_chrono_finish")
    log_trial_arguments = _refused("log_trial_arguments")
    log_trial_metadata = _refused("log_trial_metadata")
    log_trial_metrics = _refused("log_trial_metrics")
    set_trial_status = _refused("set_trial_status")
    add_trial_tags = _refused("add_trial_tags")
    new_project = _refused("new_project")
    new_trial_group = _refused("new_trial_group")
    new_trial = _refused("new_trial")
    add_project_trial = _refused("add_project_trial")
    add_group_trial = _refused("add_group_trial")
    set_group_metadata = _refused("set_group_metadata")
    fetch_and_update_trial = _refused("fetch_and_update_trial")
    fetch_and_update_group = _refused("fetch_and_update_group")
    commit = _refused("commit")


class _RefusedCalls:
    """The calls that log, of a protocol that refuses them."""

    def __init__(self, protocol: ReadOnlyProtocol) -> None:
        self._protocol = protocol

    def add_row(self, *_: object) -> bool:
        """Return False, as for a row that needs all checks."""
        return False

    def __getattr__(self, method: str) -> Callable[..., NoReturn]:
        return lambda *_, **__: self._protocol._refuse(method)  # noqa: SLF001 (the same module)


class _ReadOnlySession:
    """A connection to MongoDB alone, or to what another reader reads."""

    def __init__(self, config: Config, timeout: float, make_reader: Callable[[], Reader]) -> None:
        self.timeout = timeout
        self.lifecycle = Lifecycle(self, "trialstream-read-only")
        self._config = config
        self._make_reader = make_reader
        self._reader: Reader
        # Uids of trials that exist.
        self._trials: set[str] = set()

    @property
    def reader(self) -> Reader:
        """See `ReadSession`."""
        self.lifecycle.check_open()
        return self._reader

    async def read(self, read: Read[T], *, latest: bool = False) -> T:
        """Run a read in the I/O thread, at once: this protocol has logged nothing."""
        if latest:
            raise ProjectionIsReadOnly(
                "latest: this protocol has no connection to Kafka, which holds the end of the log: to wait for it, "
                f"connect without {_settings_of(self._config)}"
            )

        async def read_in_time() -> T:
            with within(self.timeout):
                return await read()

        return await self.lifecycle.call(read_in_time)

    def remember(self, collection: Collection, *uids: str) -> None:
        """Remember trials, so that a read of a history need not look them up."""
        if collection == "trials":
            self._trials.update(uids)

    def knows(self, collection: Collection, uid: str) -> bool:
        """Whether a trial is known to exist; other documents are not remembered."""
        return collection == "trials" and uid in self._trials

    # --- Opened and closed by its lifecycle

    async def open(self) -> str:
        """Open the reader."""
        self._reader = self._make_reader()
        try:
            await self._reader.open()
        except BaseException:
            self._reader.close()
            raise
        return ""

    def report_opened(self, trouble: str) -> None:
        """Report nothing."""

    def stop_accepting(self) -> None:
        """Do nothing: no events are accepted."""

    async def flush(self, timeout: float) -> str:  # noqa: ARG002 (nothing to send)
        """Send nothing."""
        return ""

    async def finish(self, timeout: float) -> None:  # noqa: ARG002 (nothing to write)
        """Close the reader."""
        self._reader.close()

    def report_unsent(self, trouble: str, line: UserLine | None, *, may_raise: bool) -> None:
        """Report nothing: nothing was logged."""
