"""Handles of trials: what another process needs in order to log to a trial, and what lies beside a checkpoint."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialstream_schemas.errors import ItemNotFound
from trialstream_schemas.model.forms import from_json, to_json
from trialstream_schemas.model.times import from_micros, to_micros
from trialstream_schemas.model.trial import Trial

from trialstream.config import Config
from trialstream.files import open_file, read_limited

__all__ = ["ENVIRONMENT", "Handle", "Mark", "read_mark", "write_mark"]

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
class Handle:
    """A trial and how to reach its log; it can be pickled, for workers and actors.

    The settings may hold passwords, as pickled bytes do then too.

    Attributes:
        trial: The trial, as the log addresses it.
        attempt: Key of the attempt in which its owner runs.
        config: Settings of its owner; None for those of the environment of the process that attaches.
        timeout: Maximum duration of any wait, seconds.
    """

    trial: Trial
    attempt: str
    config: Config | None = None
    timeout: float = 30.0

    def to_text(self) -> str:
        """Convert the trial and the attempt to a text.

        Returns:
            The text, which has no settings.
        """
        return json.dumps({"trial": _trial_to_json(self.trial), "attempt": self.attempt})

    @classmethod
    def from_text(cls, text: str) -> Handle:
        """Make a handle of a text.

        Args:
            text: What `to_text` has returned.

        Returns:
            The handle, without settings.
        """
        found = json.loads(text)
        return cls(_trial_from_json(found["trial"]), found["attempt"])


@dataclass(frozen=True)
class Mark:
    """A checkpoint of a trial.

    Attributes:
        trial: The trial that wrote the checkpoint.
        path: Path of the checkpoint; None if it is not known.
        step: Step of the checkpoint; later rows are superseded when the trial is resumed from it. None if it has none.
    """

    trial: Trial
    path: str | None
    step: int | float | None


def write_mark(mark: Mark) -> None:
    """Write a mark beside its checkpoint, as a whole or not at all.

    Args:
        mark: The mark; the folder of its path exists.

    Raises:
        OSError: The file cannot be written.
    """
    target = Path(f"{mark.path}{_SUFFIX}")
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with draft.open("x") as file:  # follows no link that another user has put there
        json.dump({"trial": _trial_to_json(mark.trial), "step": mark.step}, file)
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
        return Mark(_trial_from_json(found["trial"]), os.fspath(path), found["step"])
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
