"""`stream`: checks its arguments, and chooses the log."""

from __future__ import annotations

from collections.abc import Iterable

from trialstream_schemas.errors import ConfigError, InvalidType, InvalidValue
from trialstream_schemas.messages import shown
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.backends import open_url
from trialstream.config import Config, check_timeout
from trialstream.streaming.filters import Filter, Kind
from trialstream.streaming.positions import BEGIN, Bound, Since, checked_since
from trialstream.streaming.source import HasLog, LogSource
from trialstream.streaming.stream import Delivery, Stream

__all__ = ["log_of", "stream"]


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
) -> Stream:
    """Stream the events of the log: `async for item in trialstream.stream(project="mnist"):`.

    An event is returned once, as the fold takes it: repetitions, and records that are no events, are left out. Events
    of one trial come in the order of the log. No consumer is disturbed: a stream commits nothing and is in no group.

    A stream that begins later than the beginning still reads what lies before, without decoding it: the project of a
    trial, and what is a repetition, are decided there.

    Args:
        project: Return only events of this project, its groups, and the trials that are in it at that event.
        group: Return only events of this group, given as an object or by its uid, and of the trials in it.
        trial: Return only events of this trial, given as an object or by its uid; a hash stands for all its revisions.
        kinds: Return only these kinds of events: classes of `trialstream.events`, `Rows`, or their names.
        since: Where to begin: `BEGIN`, `NOW`, the `position` of another stream or its text, or the earliest append
            time, as a `datetime` or in ISO 8601 (UTC unless it has an offset).
        until: Where to end: likewise; a time is exclusive. None for nowhere.
        follow: Whether to wait for later events. Otherwise the stream ends where the log ended when it was opened.
        rows: Whether the rows of a frame are returned `"together"`, as `Rows`, or `"one"` by one, as `Row`.
        url: A place without servers: `memory:NAME` for a log in the memory of this process, `spool:PATH` for what
            offline runs have logged, `archive:PATH` for a file of `trialstream export`. None for Kafka.
        config: All settings; None to take them from the arguments below and from the environment.
        kafka: Bootstrap servers; `TRIALSTREAM_KAFKA` if not given.
        prefix: Prefix of the topics; `TRIALSTREAM_PREFIX` if not given.
        timeout: Seconds without a broker, or without a record that is expected, after which a stream that does not
            follow raises an error. One that follows waits for ever once it is opened.
        **settings: Further fields of `Config`.

    Returns:
        The stream, not opened yet.

    Raises:
        ConfigError: A setting is invalid, or the place has no log that can be streamed.
        InvalidType: An argument has another type.
        InvalidValue: An argument is invalid.
    """
    conditions = Filter(project, group, trial, kinds)
    begin, end = checked_since(since, "since"), None if until is None else checked_since(until, "until")
    if end is Bound.BEGIN:
        raise InvalidValue("until: expected NOW, a position or a time, got BEGIN")
    if rows not in ("together", "one"):
        raise InvalidValue(f"rows: expected 'together' or 'one', got {shown(rows)}")
    if not isinstance(follow, bool):
        raise InvalidType(f"follow: expected a bool, got {shown(follow)}")
    seconds = check_timeout(timeout)
    given = {"kafka": kafka, "prefix": prefix, **settings}
    source = log_of(url, config, given, seconds)
    return Stream(source, conditions, begin, end, follow=follow, rows=rows, timeout=seconds)


def log_of(url: str | None, config: Config | None, settings: dict[str, object], timeout: float) -> LogSource:
    """Choose the log that a stream reads.

    Args:
        url: A place without servers, or None for Kafka.
        config: All settings, or None.
        settings: Settings by name; those that are None are left out.
        timeout: Seconds.

    Returns:
        The log, not opened yet.

    Raises:
        ConfigError: A setting is invalid, or the place has no log that can be streamed.
    """
    if config is not None:
        if url is not None or any([each is not None for each in settings.values()]):
            raise ConfigError("config: expected no url and no other settings beside it")
    elif url is not None:
        protocol = open_url(url, {**settings, "read_only": True}, timeout)
        if not isinstance(protocol, HasLog):
            raise ConfigError(f"url: expected a place with a log, such as 'memory:NAME', got {url!r}")
        return protocol.log_source()
    else:
        config = Config.from_env(**settings)
    from trialstream.streaming.kafka_log import KafkaLog  # noqa: PLC0415 (heavy)

    return KafkaLog(config, timeout)
