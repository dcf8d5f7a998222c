"""Starts and finishes of trials, and of the processes that take part in their attempts.

The document of a trial has room for the state of `MAX_PARTICIPANTS` participants. When there are more, those of earlier
attempts are reduced to their attempt and rank, the first to join first: what decides which rows are superseded stays
exact. An attempt has at most as many participants as there is room, and `MAX_JOINS` bounds those of all attempts.
"""

from __future__ import annotations

from dataclasses import replace

from trialstream_schemas.model.aggregators import AggregatorSpec, BestAggregator
from trialstream_schemas.model.attempts import Attempt, FormerParticipant, Participant, TrialAttempt
from trialstream_schemas.model.status import Status
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.model.trial import RUNTIME_CHRONO, Trial
from trialstream_schemas.wire.envelope import WRITER
from trialstream_schemas.wire.events import Error, TrialFinished, TrialStarted

from trialstream_consumer.fold.document_size import MAX_ATTEMPTS, MAX_JOINS, MAX_PARTICIPANTS, grow
from trialstream_consumer.fold.state import Refused

__all__ = ["apply_finish", "apply_start"]

_RUNTIME = AggregatorSpec("stat", 0)
# Maximum length of the error of a participant, characters. `Trial.errors` has the whole error.
_MAX_ERROR = 256


def apply_start(trial: Trial, event: TrialStarted) -> None:
    """Start a trial, begin an attempt of it, or let a writer join an attempt.

    A new attempt starts the trial. If it resumes an attempt that the log does not have yet, it comes after the place
    that is kept for that one. A writer that joins an attempt is no start of the trial; a rank that joins the latest
    attempt after its end makes the trial run again.

    Raises:
        Refused: The writer is invalid or takes part in another attempt, or there are too many attempts or participants;
            the trial is unchanged.
        InvalidType: A field of the attempt has the wrong type; the trial is unchanged.
        InvalidValue: A field of the attempt is out of range; the trial is unchanged.
    """
    if event.attempt is None:
        _run(trial, event)
        return
    given = Attempt(
        event.attempt,
        rank=event.rank,
        world_size=event.world_size,
        host=event.host,
        resume_step=event.resume_step,
        resumes=event.resumes,
    )
    started, numbers = from_micros(event.time), {each.key: each.number for each in trial.attempts}
    is_new = given.key not in numbers
    late = None if given.resumes in numbers else given.resumes
    number = len(trial.attempts) + (1 if late is None else 2) if is_new else numbers[given.key]
    is_first = not is_new and not _has_participants(trial, number)
    _join(trial, event, given, number)
    if is_new:
        if late is not None:
            trial.attempts.append(TrialAttempt(late, number - 1, started))
        trial.attempts.append(TrialAttempt(given.key, number, started, given.resume_step, given.world_size))
        _rewind(trial, number, given.resume_step)
        _run(trial, event)
        return
    held = trial.attempts[number - 1]
    if is_first:
        held = replace(held, started=started)
        trial.starts += 1
    if held.resume_step is None:
        _rewind(trial, number, given.resume_step)
    resume_step = given.resume_step if held.resume_step is None else held.resume_step
    world_size = given.world_size if held.world_size is None else held.world_size
    trial.attempts[number - 1] = replace(held, resume_step=resume_step, world_size=world_size)
    if number == len(trial.attempts) and given.rank is not None and trial.finished is not None:
        trial.status, trial.finished = Status.Running, None


def _has_participants(trial: Trial, number: int) -> bool:
    """Whether a writer takes part in an attempt; in one of which only the place is kept, none does."""
    numbers = [each.attempt for each in trial.participants.values()]
    return number in numbers or number in [each.attempt for each in trial.former_participants.values()]


def _rewind(trial: Trial, number: int, step: float | None) -> None:
    """Take back the best observations of metrics that an attempt supersedes, if it resumes from a step."""
    if step is not None:
        for each in trial.metrics.values():
            if isinstance(each, BestAggregator):
                each.rewind(number, step)


def _run(trial: Trial, event: TrialStarted) -> None:
    trial.status = Status.Running
    trial.started = trial.started or from_micros(event.time)
    trial.finished = None
    trial.starts += 1


def _join(trial: Trial, event: TrialStarted, given: Attempt, number: int) -> None:
    """Make a writer a participant of an attempt; the attempt may be the next one, which does not exist yet.

    Raises:
        Refused: As for `apply_start`.
    """
    writer, latest = event.writer, max(number, len(trial.attempts))
    held = trial.attempt_of(writer)
    if not held:
        _check_room(trial, writer, number)
    elif held != number:
        raise Refused(
            f"attempt: expected {trial.attempts[held - 1].key!r}, in which the writer takes part, got {given.key!r}"
        )
    before = trial.participants.get(writer)
    if before is None and len(trial.participants) >= MAX_PARTICIPANTS:
        if number < latest:
            trial.former_participants.setdefault(writer, FormerParticipant(number, given.rank))
            return
        _drop_one(trial, latest)
    time = from_micros(event.time)
    grow(trial, -_text_size(before))
    host = given.host if _fits(trial, len(given.host.encode())) else ""
    joined, seen = (time, time) if before is None else (before.joined, max(before.last_seen, time))
    trial.participants[writer] = Participant(number, given.rank, host, joined, seen)


def _check_room(trial: Trial, writer: str, number: int) -> None:
    """Check that a writer can join an attempt.

    Raises:
        Refused: As for `apply_start`.
    """
    if not WRITER.fullmatch(writer):
        raise Refused(f"writer: expected 1 to 64 letters, digits, '-' and '_', got {writer!r}")
    if number > MAX_ATTEMPTS:
        raise Refused(f"attempt: expected at most {MAX_ATTEMPTS} attempts of a trial, got one more")
    in_attempt = sum([each.attempt == number for each in trial.participants.values()])
    if number >= len(trial.attempts) and in_attempt >= MAX_PARTICIPANTS:
        raise Refused(f"attempt: expected at most {MAX_PARTICIPANTS} processes in an attempt, got one more")
    if len(trial.participants) + len(trial.former_participants) >= MAX_JOINS:
        raise Refused(f"attempt: expected at most {MAX_JOINS} processes in the attempts of a trial, got one more")


def _drop_one(trial: Trial, latest: int) -> None:
    """Reduce the first participant that takes part in an attempt before the latest one to its attempt and rank."""
    writer, dropped = next((key, each) for key, each in trial.participants.items() if each.attempt < latest)
    del trial.participants[writer]
    grow(trial, -_text_size(dropped))
    trial.former_participants[writer] = FormerParticipant(dropped.attempt, dropped.rank)


def _text_size(participant: Participant | None) -> int:
    """Bytes of the texts of a participant, which count in the size of the document."""
    return 0 if participant is None else len(participant.host.encode()) + len((participant.error or "").encode())


def _fits(trial: Trial, growth: int) -> bool:
    """Add the growth by a text to the size of a document; return False if the document would be too large."""
    try:
        grow(trial, growth)
    except Refused:
        return False
    return True


def apply_finish(trial: Trial, event: TrialFinished) -> None:
    """End a trial, or a participant of one of its attempts.

    A finish by a writer that takes part in no attempt ends the trial. The end of a rank of the latest attempt ends the
    trial if all ranks have ended; that of any other participant changes the participant only.
    """
    ending = Status.Interrupted if event.interrupted else Status.Completed if event.error is None else Status.Exception
    participant = trial.participants.get(event.writer)
    if participant is not None:
        participant.status = ending
        grow(trial, -len((participant.error or "").encode()))
        text = _error_text(event.error)
        participant.error = text if _fits(trial, len((text or "").encode())) else None
        if participant.attempt == len(trial.attempts) and participant.rank is not None:
            _end_if_all_ended(trial, event)
    elif event.writer not in trial.former_participants:
        _end(trial, event, ending)


def _end_if_all_ended(trial: Trial, event: TrialFinished) -> None:
    endings = [each.status for each in trial.ranks.values()]
    if Status.Running in endings or len(endings) < (trial.attempts[-1].world_size or 1):
        return
    failed = [each for each in (Status.Exception, Status.Interrupted) if each in endings]
    _end(trial, event, failed[0] if failed else Status.Completed)


def _end(trial: Trial, event: TrialFinished, ending: Status) -> None:
    """Set the status of a trial that ended; the first end since the latest start also sets its runtime and time."""
    if trial.finished is None:
        trial.finished = from_micros(event.time)
        elapsed = event.elapsed
        if elapsed is None and trial.started is not None:
            # The clocks of two writers may disagree.
            elapsed = max(0.0, (trial.finished - trial.started).total_seconds())
        if elapsed is not None:
            trial.chronos.setdefault(RUNTIME_CHRONO, _RUNTIME()).extend([elapsed])
    trial.status = ending


def _error_text(error: Error | None) -> str | None:
    return None if error is None else ": ".join(filter(None, (error.type, error.message)))[:_MAX_ERROR]
