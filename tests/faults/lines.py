"""Check of tracked runs: what is read of them, compared with the journals of their processes.

The journals alone say what must be read: the surviving line of each rank, with each step once, of the latest attempt
that has it; all rows of all attempts; the attempts, the ranks, and the end of the trial.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import trialstream as ts
from journal import Journal
from trackers import ATTEMPT_VALUE, Life, TrackedRun
from trialstream.config import Config
from writers import connected


@dataclass(frozen=True)
class Lines:
    """Counts of a check of tracked runs.

    Attributes:
        attempts: Attempts of all runs that are in the log.
        rewinds: Attempts that resumed from a checkpoint.
        rows: Rows of all attempts.
        superseded: Rows that a rewind has superseded.
    """

    attempts: int
    rewinds: int
    rows: int
    superseded: int


async def check_lines(config: Config, runs: Iterable[TrackedRun]) -> Lines:
    """Check what is read of runs that have ended in order, once everything is folded (`oracle.check`)."""
    async with connected(replace(config, spool="off")) as protocol:
        found = [await _check_run(protocol, each) for each in runs]
    return Lines(*map(sum, zip(*found, strict=True)))


@dataclass
class _Record:
    """The start of a process and its rows, as they are in its journal.

    Attributes:
        life: The process.
        journal: Its journal.
        key: Key of its attempt.
        rank: Its rank.
        world_size: Number of ranks.
        resume_step: Step of the checkpoint from which it resumed, or None.
        rows: Number among the calls, step, and value of each row.
    """

    life: Life
    journal: Journal
    key: str
    rank: int
    world_size: int
    resume_step: int | None
    rows: list[tuple[int, int, float]]


async def _check_run(protocol: ts.KafkaProtocol, run: TrackedRun) -> tuple[int, int, int, int]:
    [trial] = await protocol.fetch_trials({"name": run.name})
    records = [each for each in map(_record_of, run.lives) if each is not None]
    for each in records:
        assert each.journal.acked == 0 or each.journal.writer in trial.writers, f"{each.life}: its start is lost"
    # A process that was killed before its start was sent is nowhere.
    records = [each for each in records if each.journal.writer in trial.writers]
    _check_trial(run, trial, records)
    everything = await protocol.fetch_metrics(trial, "loss", attempts=True, by="rank")
    rows = _check_rows(records, everything["loss"])
    lines = _lines(records)
    found = await protocol.fetch_metrics(trial, "loss", by="rank")
    counts = (await protocol.fetch_metrics(trial, "loss", reduce="count"))["loss"]

    assert {rank: _sorted(each) for rank, each in found["loss"].items()} == {
        rank: sorted(line.items()) for rank, line in lines.items()
    }, run.name
    assert all(list(line) == list(range(1, len(line) + 1)) for line in map(sorted, lines.values()))
    wanted = Counter(step for line in lines.values() for step in line)
    assert dict(zip(counts.steps, counts.values, strict=True)) == wanted
    rewinds = sum(each.resume_step is not None for each in trial.attempts)
    return len(trial.attempts), rewinds, rows, rows - sum(map(len, lines.values()))


def _record_of(life: Life) -> _Record | None:
    """Read the journal of a process; None if it was killed before its start."""
    journal = life.journal
    starts = [each for each in journal.calls if each.kind == "start"]
    if not starts:
        return None
    rows = []
    for number, each in enumerate(journal.calls):
        if each.kind == "metrics":
            step, row, _ = _content(each)
            rows.append((number, step, row["loss"]))
    return _Record(life, journal, *_content(starts[0]), rows)


def _content(each: Any) -> list[Any]:
    return json.loads(each.content)


def _check_trial(run: TrackedRun, trial: ts.Trial, records: list[_Record]) -> None:
    """Check the trial: its end, its attempts, and the state of each process."""
    size = run.ranks or 1
    attempts = {each.key: (each.resume_step, size) for each in records}
    keys = list(attempts)

    assert (trial.status, trial.lost_events, trial.starts) == (ts.Status.Completed, 0, len(attempts)), run.name
    found = {each.key: (each.resume_step, each.world_size) for each in trial.attempts}
    assert found == attempts, f"attempts of {run.name!r}: {found}, and {attempts} in the journals"
    assert [each.number for each in trial.attempts] == list(range(1, len(attempts) + 1))
    assert [each.key for each in trial.attempts] == keys
    ends = {rank: (each.status, each.error) for rank, each in trial.ranks.items()}
    assert ends == dict.fromkeys(range(size), (ts.Status.Completed, None))
    assert (trial.tags, trial.metadata["made"]) == ({"tracked": True}, "by a tracker")
    for each in records:
        participant = trial.participants[each.journal.writer]
        last = each.journal.calls[-1]
        ended = last.kind == "finish" and each.journal.acked == len(each.journal.calls)
        status = ts.Status.Running
        if ended:
            status = ts.Status.Interrupted if _content(last)[0] else ts.Status.Completed
        assert (participant.attempt, participant.rank) == (keys.index(each.key) + 1, each.rank), each.life
        if ended or last.kind != "finish":  # otherwise it was killed in its end
            assert participant.status is status, each.life
    notes = [each.journal.notes for each in records]
    assert sum(each.get("errors", 0) for each in notes) == 0, f"{run.name}: errors of trackers: {notes}"


def _check_rows(records: list[_Record], found: dict[int | None, ts.MetricHistory]) -> int:
    """Check that all acknowledged rows of all attempts are there, in order, and nothing else; return their number."""
    by_attempt: dict[tuple[int | None, int], list[tuple[int, float]]] = defaultdict(list)
    for rank, history in found.items():
        for step, value in zip(history.steps, history.values, strict=True):
            by_attempt[rank, int(value) // ATTEMPT_VALUE].append((step, value))
    total = 0
    for each in records:
        got = by_attempt.pop((each.rank, each.life.attempt), [])
        acked = sum(number < each.journal.acked for number, *_ in each.rows)
        assert acked <= len(got) <= len(each.rows), f"{each.life}: {acked} rows are acknowledged, {len(got)} found"
        assert got == [(step, value) for _, step, value in each.rows[: len(got)]], each.life
        total += len(got)
    assert not by_attempt, f"rows that no process logged: {dict(by_attempt)}"
    return total


def _lines(records: list[_Record]) -> dict[int, dict[int, float]]:
    """Return by rank the value of each step on the surviving line: that of the latest attempt that has the step."""
    lines: dict[int, dict[int, float]] = defaultdict(dict)
    attempts: dict[str, list[_Record]] = defaultdict(list)
    for each in records:
        attempts[each.key].append(each)
    for lives in attempts.values():
        if (bound := lives[0].resume_step) is not None:
            for rank, line in lines.items():
                lines[rank] = {step: value for step, value in line.items() if step <= bound}
        for each in lives:
            lines[each.rank] |= {step: value for _, step, value in each.rows}
    return {rank: line for rank, line in lines.items() if line}


def _sorted(history: ts.MetricHistory) -> list[tuple[int, float]]:
    return sorted(zip(history.steps.tolist(), history.values.tolist(), strict=True))
