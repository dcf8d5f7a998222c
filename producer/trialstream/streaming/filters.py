"""The filter of a stream: which events it returns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import TypeAlias

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.messages import shown
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.wire.events import EVENTS, Event, LogCreated, MetricsLogged, SubjectEvent, TrialEvent

from trialstream.streaming.decisions import TrialDecisions, TrialState
from trialstream.streaming.rows import Row, Rows

__all__ = ["Filter", "Kind"]

Kind: TypeAlias = type[SubjectEvent] | type[Rows] | type[Row] | str
"""A kind of events: a class, or its name."""

_KINDS: dict[str, type[Event]] = {each.__name__: each for each in EVENTS if each is not LogCreated}
_ROWS = {"Rows": MetricsLogged, "Row": MetricsLogged}
# Difference of the clocks of a writer and of the broker up to which no event is missed, as in `TrialEvents`.
_CLOCK_DIFFERENCE = timedelta(hours=1)
_ADDRESS = re.compile(r"[0-9a-f]{32}(?:_\d+|~[^~/]{1,64})?")


class Filter:
    """Conditions on events; all must be met.

    Args:
        project: A project, or its uid; None for any, and for trials without one.
        group: A group, or its uid; None for any.
        trial: A trial, its uid, or a hash for all its revisions; None for any.
        kinds: Kinds of events; None for all.

    Attributes:
        trial: The uid, address or hash of the trial, or None.
        hash: Its hash, or None.
        least_time: The least append time that an event of the trial can have, milliseconds since 1970 UTC, or None.
        has_registry: Whether events of projects and groups may meet the conditions.

    Raises:
        InvalidType: A condition has another type.
        InvalidValue: There is no such kind, or the trial is no uid.
    """

    def __init__(
        self,
        project: str | Project | None,
        group: str | TrialGroup | None,
        trial: str | Trial | None,
        kinds: Iterable[Kind] | None,
    ) -> None:
        self._project = _uid(project, Project, "project")
        self._group = _uid(group, TrialGroup, "group")
        self.trial = _uid(trial, Trial, "trial")
        if self.trial is not None and not _ADDRESS.fullmatch(self.trial):
            raise InvalidValue(f"trial: expected the uid of a trial, such as Trial.uid, got {shown(self.trial)}")
        self.hash = None if self.trial is None else hash_of(self.trial)
        self.least_time = _least_time(trial) if isinstance(trial, Trial) else None
        self._kinds = None if kinds is None else _checked_kinds(kinds)
        self.has_registry = self.trial is None and (
            self._kinds is None or any([not issubclass(each, TrialEvent) for each in self._kinds])
        )

    def wants_kind(self, kind: type[Event]) -> bool:
        """Whether events of a class may meet the conditions."""
        return self._kinds is None or kind in self._kinds

    def wants(self, project: str | None, group: str | None) -> bool:
        """Whether events of a project, of a group, or of a trial in them meet the conditions on these."""
        return self._project in (None, project) and self._group in (None, group)

    def wants_trial(self, trial: TrialState, decisions: TrialDecisions) -> bool:
        """Whether a trial meets the conditions.

        Args:
            trial: The trial.
            decisions: The decisions of its partition.
        """
        if self.trial is not None and self.trial != self.hash and trial.uid != decisions.resolve(self.trial):
            return False
        _, project, group = trial.place
        return self.wants(project, group)


def _uid(given: object, kind: type[Project | TrialGroup | Trial], name: str) -> str | None:
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, kind):
        return given.uid
    raise InvalidType(f"{name}: expected a {kind.__name__} or its uid, got {shown(given)}")


def _least_time(trial: Trial) -> int | None:
    # How many earlier creations of its hash there are decides a later revision.
    if trial.created is None or trial.request is not None or trial.revision:
        return None
    return max(0, to_micros(trial.created - _CLOCK_DIFFERENCE) // 1000)


def _checked_kinds(kinds: Iterable[Kind]) -> frozenset[type[Event]]:
    if isinstance(kinds, str | type):
        raise InvalidType(f"kinds: expected several classes or names, such as ['Rows'], got {shown(kinds)}")
    found: set[type[Event]] = set()
    for each in kinds:
        name = each if isinstance(each, str) else getattr(each, "__name__", shown(each))
        kind = _KINDS.get(name) or _ROWS.get(name)
        if kind is None:
            raise InvalidValue(f"kinds: expected some of {', '.join([*_KINDS, 'Rows'])}, got {shown(name)}")
        found.add(kind)
    return frozenset(found)
