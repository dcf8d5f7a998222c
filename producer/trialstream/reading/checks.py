"""Checks of arguments and of outcomes that all protocols share."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from trialstream_schemas.errors import InvalidType, InvalidValue, ItemNotFound
from trialstream_schemas.messages import shown
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.model.trial import OwnHash, Project, Trial, TrialGroup, check_identity

__all__ = ["checked", "checked_number", "checked_trials", "decided_uid", "definition", "is_new", "whole_number"]

T = TypeVar("T")


def checked(given: T, kind: type[T], path: str) -> T:
    """Return an argument, checked for its type; of a project, a group or a trial, the fields of its uid, too.

    Args:
        given: The argument.
        kind: Its expected type.
        path: Name of the parameter, for the message.

    Returns:
        The argument.

    Raises:
        InvalidType: The argument or a field has another type.
        InvalidValue: A field has a value that is part of no uid.
    """
    if not isinstance(given, kind):
        raise InvalidType(f"{path}: expected a {kind.__name__}, got {type(given).__name__}")
    if isinstance(given, Project | TrialGroup | Trial):
        check_identity(given)
    return given


def checked_trials(given: Iterable[Trial]) -> list[Trial]:
    """Return the trials of an argument, checked for their type.

    Args:
        given: The argument.

    Returns:
        The trials.

    Raises:
        InvalidType: The argument is not iterable, or one of its elements is not a trial.
    """
    if not isinstance(given, Iterable):
        raise InvalidType(f"trials: expected a list of trials, got {type(given).__name__}")
    return [checked(each, Trial, f"trials[{i}]") for i, each in enumerate(given)]


def whole_number(given: object) -> int | None:
    """Convert an integer of any type, such as numpy's, to an int.

    Args:
        given: The argument.

    Returns:
        The int; None if the argument is a bool or not an integer.
    """
    if isinstance(given, bool):
        return None
    try:
        return operator.index(given)  # type: ignore[arg-type]  # checked by the call
    except TypeError:
        return None


def checked_number(given: object, path: str, least: int, most: int | None = None) -> int:
    """Return an argument as an int, checked for its type and its range.

    Args:
        given: The argument, an integer of any type.
        path: Name of the parameter, for the message.
        least: The smallest valid number.
        most: The largest one; None for no limit.

    Returns:
        The int.

    Raises:
        InvalidType: The argument is not an integer.
        InvalidValue: It is out of range.
    """
    number = whole_number(given)
    if number is None:
        raise InvalidType(f"{path}: expected an int, got {type(given).__name__}")
    if number < least or (most is not None and number > most):
        expected = f"at least {least}" if most is None else f"{least} to {most}"
        raise InvalidValue(f"{path}: expected {expected}, got {shown(number)}")
    return number


def is_new(trial: Trial) -> bool:
    """Whether the user has made a trial; otherwise a call has returned it."""
    return trial.created is None or isinstance(trial.hash, OwnHash)


def definition(trial: Trial) -> Trial:
    """Return a trial with its hash: a new trial is checked and hashed again, since its dicts may have changed.

    Args:
        trial: The trial.

    Returns:
        The trial; as it is, if a call has returned it.

    Raises:
        InvalidType: A field of a new trial has a type that cannot be logged.
        InvalidValue: A field of a new trial cannot be stored, or a hash was passed that is not that of its definition.
    """
    if not is_new(trial):
        return trial
    found = replace(trial, hash="")
    if not isinstance(trial.hash, OwnHash) and trial.hash != found.hash:
        raise InvalidValue(
            f"Trial.hash: expected no hash in a new trial, got {shown(trial.hash)}: leave it out, since the hash is "
            "computed from the definition"
        )
    return found


def decided_uid(address: str, outcome: Outcome | None) -> str:
    """Return the uid of the trial that a request created.

    Args:
        address: Uid of the trial before its revision was decided: `<hash>~<request>`.
        outcome: Outcome of the request; None if there is none yet.

    Returns:
        The uid.

    Raises:
        ItemNotFound: The request is not decided yet, or it was refused.
    """
    if outcome is None or outcome.uid is None:
        raise ItemNotFound(
            f"the creation {address.partition('~')[2]} is not decided yet: if its event is in a spool, send it by "
            "`trialstream push`"
        )
    return outcome.uid
