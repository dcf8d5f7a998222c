"""The Protocol over a named projection: the state as of some time, read as it is."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from trialstream_schemas.errors import ProjectionIsReadOnly

from trialstream.config import Config
from trialstream.kafka.protocol import KafkaProtocol
from trialstream.kafka.session import Session
from trialstream.reading.reader import Reader

__all__ = ["ProjectionProtocol"]


class ProjectionProtocol(KafkaProtocol):
    """Reads, and refuses everything else; made by `connect(projection=...)`. It needs MongoDB and no Kafka.

    Entering it raises `ItemNotFound` if there is no such projection, or if it is not finished.

    Args:
        config: Where MongoDB is, and the name of the projection.
        timeout: Seconds that any wait takes at most.
    """

    def __init__(self, config: Config, *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        self._session = _ReadingSession(config, timeout)
        self._name = config.projection

    async def __aenter__(self) -> Self:
        await self._session.open()  # there is no outbox to log into
        return self

    def _refuse_now(self) -> NoReturn:
        raise ProjectionIsReadOnly(
            f"projection {self._name!r} is only read: to log, connect without `projection` and TRIALSTREAM_PROJECTION"
        )

    async def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse_now()

    statistics = _refuse_now
    log_trial_start = _refuse
    log_trial_finish = _refuse
    log_trial_chrono_start = _refuse
    log_trial_chrono_finish = _refuse
    log_trial_arguments = _refuse
    log_trial_metadata = _refuse
    log_trial_metrics = _refuse
    set_trial_status = _refuse
    add_trial_tags = _refuse
    new_project = _refuse
    new_trial_group = _refuse
    new_trial = _refuse
    add_project_trial = _refuse
    add_group_trial = _refuse
    set_group_metadata = _refuse
    fetch_and_update_trial = _refuse
    fetch_and_update_group = _refuse
    commit = _refuse


class _ReadingSession(Session):
    """A session that reads only: nothing is sent, so there is nothing to wait for either."""

    @property
    def connected(self) -> bool:
        """Whether what exists can be looked up: always."""
        self.check_open()
        return True

    async def _open(self) -> str:
        self.reader = Reader(self._config, self.timeout)
        try:
            await self.reader.check_named()
        except BaseException:
            self.reader.close()
            raise
        return ""

    def _tell_opened(self, trouble: str) -> None:
        """Say nothing: no log call is made."""

    def _shut(self) -> None:
        """Do nothing: no events were taken."""

    async def _close(self, sending: float, finishing: float) -> str:  # noqa: ARG002 (nothing is sent)
        self.reader.close()
        return ""

    def _tell_left(self, trouble: str, *, may_raise: bool, stacklevel: int) -> None:
        """Say nothing: nothing was logged."""

    async def catch_up(self, timeout: float) -> None:
        """Return at once: it reads what is there."""
