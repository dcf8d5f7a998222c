"""`trialstream.sync.stream`: importing this module imports no driver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.config import Config
from trialstream.streaming.positions import BEGIN, Since

if TYPE_CHECKING:
    from trialstream.streaming.filters import Kind
    from trialstream.streaming.stream import Delivery
    from trialstream.streaming.sync_stream import SyncStream

__all__ = ["stream"]


def stream(
    *,
    project: str | Project | None = None,
    group: str | TrialGroup | None = None,
    trial: str | Trial | None = None,
    kinds: Iterable[Kind] | None = None,
    since: Since = BEGIN,
    until: Since | None = None,
    follow: bool = True,
    rows: Delivery = "together",
    url: str | None = None,
    config: Config | None = None,
    kafka: str | None = None,
    prefix: str | None = None,
    timeout: float = 30.0,
    **settings: object,
) -> SyncStream:
    """Stream the events of the log: `for item in trialstream.sync.stream(project="mnist"):`.

    Args:
        project: As for `trialstream.stream`.
        group: As for `trialstream.stream`.
        trial: As for `trialstream.stream`.
        kinds: As for `trialstream.stream`.
        since: As for `trialstream.stream`.
        until: As for `trialstream.stream`.
        follow: As for `trialstream.stream`.
        rows: As for `trialstream.stream`.
        url: As for `trialstream.stream`.
        config: As for `trialstream.stream`.
        kafka: As for `trialstream.stream`.
        prefix: As for `trialstream.stream`.
        timeout: As for `trialstream.stream`, seconds.
        **settings: As for `trialstream.stream`.

    Returns:
        The stream, not opened yet.

    Raises:
        ConfigError: A setting is invalid, or the place has no log that can be streamed.
        InvalidType: An argument has another type.
        InvalidValue: An argument is invalid.
    """
    from trialstream.streaming.opening import stream as asynchronous  # noqa: PLC0415 (heavy)
    from trialstream.streaming.sync_stream import SyncStream  # noqa: PLC0415 (heavy)

    return SyncStream(
        asynchronous(
            project=project,
            group=group,
            trial=trial,
            kinds=kinds,
            since=since,
            until=until,
            follow=follow,
            rows=rows,
            url=url,
            config=config,
            kafka=kafka,
            prefix=prefix,
            timeout=timeout,
            **settings,
        )
    )
