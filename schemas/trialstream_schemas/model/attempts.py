"""Attempts of a trial: each start of a training run, with the processes that take part in it.

Attempts are numbered 1, 2, 3 … in the order in which the log first names them: with a start of its own, or as the one
that another attempt resumes, whose events may come late. A writer takes part in at most one attempt of a trial; a
writer that takes part in none has the attempt number 0.

An attempt with a `resume_step` rewinds the trial. A row is *superseded* if its step is a number and an attempt after
that of its writer has a smaller `resume_step`. This depends on the attempt of the writer and on the step alone, and not
on the order of the log: so the late rows of a process that is dying are superseded, too. Nothing is deleted.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import NamedTuple

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.status import Status
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.values import check_name

__all__ = [
    "MAX_HOST_BYTES",
    "MAX_KEY_BYTES",
    "MAX_RANKS",
    "Attempt",
    "FormerParticipant",
    "Participant",
    "TrialAttempt",
    "superseding_step",
]

MAX_RANKS = 2048
"""Maximum number of ranks of an attempt: the document of a trial has room for the state of each (`fold`)."""

MAX_KEY_BYTES = 256
"""Maximum length of the key of an attempt in UTF-8, bytes."""

MAX_HOST_BYTES = 255
"""Maximum length of the name of a host in UTF-8, bytes: that of a name in the DNS is 253."""


@dataclass(frozen=True)
class Attempt:
    """An attempt, and the place of this process in it, for `log_trial_start`.

    Attributes:
        key: Key that all processes of the attempt share, such as the id of the job and the number of its restart; at
            most `MAX_KEY_BYTES` (256) in UTF-8, not empty. A key that the trial does not have yet begins a new attempt.
        rank: Rank of this process, from 0; None for a process that only helps, whose end never ends the trial.
        world_size: Number of ranks, at most `MAX_RANKS` (2,048); None if it is unknown. The trial ends when as many
            ranks have ended, and otherwise when all ranks that have started have ended.
        host: Name of the machine, at most `MAX_HOST_BYTES` (255) in UTF-8.
        resume_step: Step of the checkpoint from which the attempt resumes: rows of earlier attempts with a larger step
            are superseded. None if the attempt rewinds nothing.
        resumes: Key of the attempt that wrote the checkpoint; None if it is unknown. Its place is before this attempt,
            also if its own events come to the log later, such as from a spool.

    Raises:
        InvalidType: A field has the wrong type; the message names the field.
        InvalidValue: A field is out of range; the message names the field.
    """

    key: str
    _: KW_ONLY
    rank: int | None = None
    world_size: int | None = None
    host: str = ""
    resume_step: int | float | None = None
    resumes: str | None = None

    def __post_init__(self) -> None:
        checked = {
            "key": _text(self.key, "Attempt.key", MAX_KEY_BYTES),
            "resumes": None if self.resumes is None else _text(self.resumes, "Attempt.resumes", MAX_KEY_BYTES),
            "world_size": _count(self.world_size, "Attempt.world_size", 1, MAX_RANKS),
            "host": _text(self.host, "Attempt.host", MAX_HOST_BYTES),
            "resume_step": _numeric_step(self.resume_step, "Attempt.resume_step"),
        }
        for name in ("key", "resumes"):
            if checked[name] == "":
                raise InvalidValue(f"Attempt.{name}: expected a key, got an empty str")
        if self.resumes == self.key:
            raise InvalidValue(f"Attempt.resumes: expected the key of another attempt, got {self.key!r}")
        ranks = MAX_RANKS if checked["world_size"] is None else self.world_size
        assert ranks is not None
        checked["rank"] = _count(self.rank, "Attempt.rank", 0, ranks - 1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class TrialAttempt:
    """An attempt of a trial, as it is stored.

    Attributes:
        key: Key that the processes of the attempt share.
        number: 1, 2, 3 … in the order in which the log first names the attempts of the trial.
        started: Time of the first start of it in the log, UTC; until then, that of the attempt that resumes it.
        resume_step: Step from which the attempt resumed, of the first start of it that has one; None if none has one.
        world_size: Number of ranks, of the first start that has one; None if it is unknown.
    """

    key: str
    number: int
    started: datetime
    resume_step: int | float | None = None
    world_size: int | None = None


@dataclass(slots=True)
class Participant:
    """A writer that takes part in an attempt.

    Attributes:
        attempt: Number of the attempt.
        rank: Rank of the process; None for a process that only helps.
        host: Name of the machine; empty if it is unknown, or if the document of the trial is full.
        joined: Time of its start, UTC.
        last_seen: Time of its latest event, row or heartbeat, UTC.
        status: `Running` until it ends; then `Completed`, `Interrupted` or `Exception`.
        error: Class and message of the exception that ended it, at most 256 characters; None without one, or if the
            document of the trial is full. `Trial.errors` has the traceback.
    """

    attempt: int
    rank: int | None
    host: str
    joined: datetime
    last_seen: datetime
    status: Status = Status.Running
    error: str | None = None


class FormerParticipant(NamedTuple):
    """A participant of an earlier attempt, of which less is kept when there are too many participants.

    Attributes:
        attempt: Number of the attempt.
        rank: Rank of the process; None for a process that only helped.
    """

    attempt: int
    rank: int | None


def superseding_step(attempts: Sequence[TrialAttempt], number: int) -> int | float | None:
    """The smallest `resume_step` of the attempts after one: rows of that one with a larger step are superseded.

    Args:
        attempts: All attempts of a trial, in their order.
        number: Number of an attempt; 0 for rows of writers that take part in none.

    Returns:
        The step; None if no later attempt has one.
    """
    steps = [each.resume_step for each in attempts[number:] if each.resume_step is not None]
    return min(steps, default=None)


def _text(given: object, path: str, most: int) -> str:
    text = check_name(given, path)
    if (size := len(text.encode())) > most:
        raise InvalidValue(f"{path}: expected at most {most} bytes in UTF-8, got {size}")
    return text


def _count(given: object, path: str, least: int, most: int) -> int | None:
    if given is None:
        return None
    try:
        if isinstance(given, bool):
            raise TypeError
        number = operator.index(given)  # type: ignore[arg-type]  # checked by the call
    except TypeError:
        raise InvalidType(f"{path}: expected an int or None, got {type(given).__name__}") from None
    if not least <= number <= most:
        got = number if number.bit_length() <= 64 else f"an int of {number.bit_length()} bits"
        raise InvalidValue(f"{path}: expected {least} to {most}, got {got}")
    return int(number)


def _numeric_step(given: object, path: str) -> int | float | None:
    step = check_step(given, path)
    if isinstance(step, str):
        raise InvalidType(f"{path}: expected a number or None, got a str")
    return step
