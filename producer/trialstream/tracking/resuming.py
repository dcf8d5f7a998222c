"""The trial and the checkpoint that `track(resume=…)` names."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
from trialstream_schemas.errors import ItemNotFound, TrialStreamError
from trialstream_schemas.model.status import Status
from trialstream_schemas.model.trial import Trial

from trialstream.tracking.handle import Mark, read_mark

if TYPE_CHECKING:
    from trialstream.kafka.protocol import LoggingProtocol

__all__ = ["find_mark"]

logger = logging.getLogger("trialstream")
_UID = re.compile(r"[0-9a-f]{16,}[_~][0-9a-f]+")
# A process that runs a trial sends a heartbeat every 10 s, which is folded some moments later.
_HEARTBEAT_SECONDS = 12.0
# Clocks of two machines may differ by some seconds.
_RECENT = timedelta(seconds=20)
_POLL_SECONDS = 0.5


async def find_mark(
    protocol: LoggingProtocol, resume: str, trial: Trial, *, can_read: bool, shares_run: bool
) -> Mark | None:
    """Find what is to be resumed.

    Args:
        protocol: An open protocol.
        resume: `auto`, the uid of a trial, or the path of a checkpoint.
        trial: The definition that `auto` looks for.
        can_read: Whether the protocol has a reader.
        shares_run: Whether the processes of a run resume the trial together, so that another one may run it already.

    Returns:
        The trial and its checkpoint; None if a trial is to be created.

    Raises:
        ItemNotFound: No trial has this uid or this checkpoint.
    """
    if resume == "auto":
        try:
            return await _latest(protocol, trial, shares_run=shares_run)
        except TrialStreamError as error:
            logger.warning("resume: a new trial is created, since the earlier ones cannot be read: %s", error)
            return None
    if _UID.fullmatch(resume):
        uid = await protocol.created_uid(resume) if "~" in resume else resume
        found = await protocol.fetch_trials({"uid": uid})
        if not found:
            raise ItemNotFound(f"resume: expected the uid of a trial, got {resume!r}, which does not exist")
        return _mark_of(found[0])
    try:
        return read_mark(resume)
    except ItemNotFound:
        if not can_read:
            raise
        found = await protocol.fetch_trials({"metadata.checkpoint.path": resume}, sort="-created", limit=1)
        if found:
            return _mark_of(found[0])
        raise


async def _latest(protocol: LoggingProtocol, trial: Trial, *, shares_run: bool) -> Mark | None:
    """Find the latest revision that is not completed and that no other process runs."""
    found = [each for each in await protocol.get_trial(trial) if each.status is not Status.Completed]
    for each in sorted(found, key=lambda each: each.revision, reverse=True):
        if shares_run or not await _is_alive(protocol, each):
            return _mark_of(each)
        logger.warning("resume: trial %s is not resumed, since another process runs it", each.uid)
    return None


async def _is_alive(protocol: LoggingProtocol, trial: Trial) -> bool:
    """Whether a process runs a trial: waits for its next heartbeat if the latest one is recent."""
    if trial.status is not Status.Running or trial.last_seen is None or datetime.now(UTC) - trial.last_seen > _RECENT:
        return False
    logger.info("resume: waiting for a heartbeat of trial %s, which was running a moment ago", trial.uid)
    with anyio.move_on_after(_HEARTBEAT_SECONDS):
        while True:
            await anyio.sleep(_POLL_SECONDS)
            [now] = await protocol.fetch_trials({"uid": trial.uid}, fields=["last_seen", "status"])
            if now.status is not Status.Running:
                return False
            if now.last_seen != trial.last_seen:
                return True
    return False


def _mark_of(trial: Trial) -> Mark:
    """The latest checkpoint of a trial that was read."""
    last = trial.metadata.get("checkpoint")
    if not isinstance(last, dict):
        return Mark(trial, None, None)
    return Mark(trial, last.get("path"), last.get("step"))
