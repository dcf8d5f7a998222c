"""The targets of the fuzzing: functions of bytes from outside, with inputs to begin from.

A module that fuzzes something adds its targets to `TARGETS`: `run_fuzz.py` and `tests/unit/test_fuzz_seeds.py` take all
of them. A finding is an input on which a target raises an error that it does not allow, crashes the process, or takes
more than a limit below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import file_targets
import text_targets
import wire_targets

__all__ = ["INPUT_BYTES", "MAX_BYTES", "MAX_SECONDS", "SEEDS", "TARGETS", "Target", "saved"]

INPUT_BYTES = 1024 * 1024
"""Maximum size of an input, bytes."""
MAX_SECONDS = 1.0
"""Maximum processor time of a call, seconds."""
MAX_BYTES = 64 * 1024 * 1024
"""Maximum memory of a call beyond the size of its input, bytes."""
SEEDS = Path(__file__).parent / "seeds"
"""Folder of the findings: one folder for each target, one file for each input."""


@dataclass(frozen=True)
class Target:
    """Something that reads bytes from outside.

    Attributes:
        name: Name of the target, and of its folder in `SEEDS`.
        call: Reads the bytes.
        seeds: Makes the inputs from which others are made by mutation.
        allowed: The errors that the call may raise.
    """

    name: str
    call: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    allowed: tuple[type[Exception], ...]


TARGETS: dict[str, Target] = {
    each[0]: Target(*each) for each in [*wire_targets.TARGETS, *file_targets.TARGETS, *text_targets.TARGETS]
}
"""The targets by name."""


def saved(target: Target) -> Iterator[Path]:
    """The files of the inputs of a target that were findings once."""
    yield from sorted((SEEDS / target.name).glob("*.bin"))
