"""Handles of trials: what another process needs in order to log to a trial, and what lies beside a checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialstream_schemas.errors import InvalidValue, ItemNotFound
from trialstream_schemas.model.forms import from_json, to_json
from trialstream_schemas.model.times import from_micros, to_micros
from trialstream_schemas.model.trial import Trial

from trialstream.backends import open_url
from trialstream.config import Config
from trialstream.connect import protocol_of
from trialstream.files import open_file, read_limited

if TYPE_CHECKING:
    from trialstream.kafka.protocol import LoggingProtocol
    from trialstream.reading.read_only import ReadOnlyProtocol

__all__ = ["ENVIRONMENT", "Connection", "Handle", "Mark", "read_mark", "write_mark"]

ENVIRONMENT = "TRIALSTREAM_HANDLE"
"""Environment variable with the trial of the running tracker, for the processes that it starts."""

# What is hashed as the identity of a trial, and what says which revision it is.
_FIELDS = ("name", "version", "parameters", "project_id", "group_id", "description", "hash", "revision", "request")
# What the creation carries besides: each process that sends it must send the same, since the log takes the first.
_CREATED_FIELDS = ("metadata", "tags")
_SUFFIX = ".trialstream.json"
# Bound of a mark that is read, bytes; it holds the values of a creation, which take 768 KiB.
_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Connection:
    """The place to which a tracker logs; a process that it starts can make a connection of its own with it.

    Attributes:
        place: Settings of Kafka and MongoDB, or the URL of a place without servers, as for `connect`.
        timeout: Maximum duration of any wait, seconds.
        settings: Further settings of the URL.
    """

    place: Config | str
    timeout: float = 30.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def can_read(self) -> bool:
        """Whether documents can be read from the place."""
        return isinstance(self.place, str) or self.place.can_read

    def make_protocol(self) -> LoggingProtocol:
        """Make a protocol that logs to the place.

        Returns:
            The protocol, not entered yet.

        Raises:
            ConfigError: A setting is invalid; the message names it.
            InvalidValue: The settings are those of a protocol that only reads.
        """
        from trialstream.kafka.protocol import LoggingProtocol  # noqa: PLC0415 (heavy)

        protocol: LoggingProtocol | ReadOnlyProtocol
        if isinstance(self.place, Config):
            protocol = protocol_of(self.place, timeout=self.timeout)
        else:
            protocol = open_url(self.place, self.settings, self.timeout)
        if not isinstance(protocol, LoggingProtocol):
            raise InvalidValue("track: expected settings of a protocol that can log, got read_only or projection")
        return protocol

    def to_json(self) -> dict[str, Any]:
        """Return the connection as JSON, without passwords."""
        place: str | dict[str, Any] = self.place if isinstance(self.place, str) else _settings_to_json(self.place)
        return {"place": place, "timeout": self.timeout, "settings": dict(self.settings)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Connection:
        """Make a connection of what `to_json` has returned; what is missing is that of the environment."""
        place = found["place"]
        if not isinstance(place, str):
            known = {each.name for each in fields(Config)}
            place = Config.from_env(**{name: x for name, x in place.items() if name in known})
        return cls(place, found["timeout"], found["settings"])


def _settings_to_json(config: Config) -> dict[str, Any]:
    """Return all settings but those that may hold a password."""
    found = {each.name: getattr(config, each.name) for each in fields(config) if each.repr}
    if "@" not in config.mongo and "password" not in config.mongo.lower():
        found["mongo"] = config.mongo
    return found


@dataclass(frozen=True)
class Handle:
    """A trial and how to reach its log; it can be pickled, for workers and actors.

    The settings may hold passwords, as pickled bytes do then too.

    Attributes:
        trial: The trial, as the log addresses it.
        attempt: Key of the attempt in which its owner runs.
        connection: The place to which its owner logs.
    """

    trial: Trial
    attempt: str
    connection: Connection

    def to_text(self) -> str:
        """Convert the handle to a text.

        Returns:
            The text, which has no passwords.
        """
        found = {"trial": _trial_to_json(self.trial), "attempt": self.attempt, "connection": self.connection.to_json()}
        return json.dumps(found)

    @classmethod
    def from_text(cls, text: str) -> Handle:
        """Make a handle of a text.

        Args:
            text: What `to_text` has returned.

        Returns:
            The handle; its passwords are those of the environment.

        Raises:
            ConfigError: A setting of the environment is invalid; the message names it.
        """
        found = json.loads(text)
        connection = Connection.from_json(found["connection"])
        return cls(_trial_from_json(found["trial"]), found["attempt"], connection)


@dataclass(frozen=True)
class Mark:
    """A checkpoint of a trial.

    Attributes:
        trial: The trial that wrote the checkpoint.
        path: Path of the checkpoint; None if it is not known.
        step: Step of the checkpoint; later rows are superseded when the trial is resumed from it. None if it has none.
        attempt: Key of the attempt that wrote the checkpoint; None if the log has that attempt.
    """

    trial: Trial
    path: str | None
    step: int | float | None
    attempt: str | None = None


def write_mark(mark: Mark) -> None:
    """Write a mark beside its checkpoint, as a whole or not at all.

    Args:
        mark: The mark; the folder of its path exists.

    Raises:
        OSError: The file cannot be written.
    """
    target = Path(f"{mark.path}{_SUFFIX}")
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    found = {"trial": _trial_to_json(mark.trial), "step": mark.step, "attempt": mark.attempt}
    draft.unlink(missing_ok=True)
    with draft.open("x") as file:  # follows no link that another user has put there
        json.dump(found, file)
    draft.replace(target)


def read_mark(path: str | os.PathLike[str]) -> Mark:
    """Read the mark beside a checkpoint file.

    Args:
        path: Path of the checkpoint.

    Returns:
        The mark.

    Raises:
        ItemNotFound: There is no mark, or it cannot be read.
    """
    target = Path(f"{os.fspath(path)}{_SUFFIX}")
    try:
        fd = open_file(target, follow=True)
        try:
            found = json.loads(read_limited(fd, _MAX_BYTES))
        finally:
            os.close(fd)
        # Earlier versions wrote no attempt.
        return Mark(_trial_from_json(found["trial"]), os.fspath(path), found["step"], found.get("attempt"))
    except FileNotFoundError:
        raise ItemNotFound(f"resume: expected {target}, which checkpoint() writes beside a checkpoint") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ItemNotFound(f"resume: expected a file that checkpoint() wrote, got {target}: {error!r}") from None


def _trial_to_json(trial: Trial) -> dict[str, Any]:
    names = _FIELDS if trial.request is None else _FIELDS + _CREATED_FIELDS
    found = {name: to_json(getattr(trial, name)) for name in names}
    return found | {"created": trial.created and to_micros(trial.created)}


def _trial_from_json(found: dict[str, Any]) -> Trial:
    fields = {name: from_json(found[name]) for name in _FIELDS}
    fields |= {name: from_json(found[name]) for name in _CREATED_FIELDS if name in found}
    created = found["created"]
    return Trial(**fields, created=created and from_micros(created))  # type: ignore[arg-type]
