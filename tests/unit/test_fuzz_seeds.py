"""The fuzzing's targets on their seeds, on earlier findings, and on a few mutations; `make fuzz` makes many more."""

from __future__ import annotations

import os
import random
import signal
import tracemalloc
from contextlib import suppress

import pytest
import run_fuzz
from mutation import mutated
from targets import INPUT_BYTES, MAX_BYTES, TARGETS, Target, saved

_MUTATIONS = 200


def run(target, data):
    """Call a target; errors that it does not allow are raised."""
    with suppress(*target.allowed):
        target.call(data)


@pytest.mark.parametrize("name", list(TARGETS))
def test_seeds_and_mutations(name):
    """A target reads its seeds without an error, and allows no other errors on mutations of them."""
    target = TARGETS[name]
    seeds = target.seeds()
    rng = random.Random(name)

    for each in seeds:
        run(target, each)
    for _ in range(_MUTATIONS):
        run(target, mutated(rng, seeds, INPUT_BYTES))


@pytest.mark.parametrize("name", list(TARGETS))
def test_findings_of_the_past(name):
    """Each input that was a finding once is read or refused within the bound of memory."""
    target = TARGETS[name]
    for path in saved(target):
        data = path.read_bytes()
        run(target, data)  # fills the caches
        tracemalloc.start()
        try:
            run(target, data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak <= MAX_BYTES + len(data), path


def raises(data):
    """Raise an error that is not allowed for some inputs."""
    if b"\xff" in data:
        raise ZeroDivisionError


def takes_memory(data):
    """Take more memory than is allowed for some inputs."""
    if b"\xff" in data:
        bytearray(MAX_BYTES + 2 * INPUT_BYTES)[::4096] = b"x" * ((MAX_BYTES + 2 * INPUT_BYTES) // 4096)


def crashes(data):
    """End the process for some inputs."""
    if b"\xff" in data:
        os.kill(os.getpid(), signal.SIGKILL)  # SIGSEGV would print a stack


@pytest.mark.parametrize("call", [raises, takes_memory, crashes])
def test_the_fuzzing_finds_faults(call, tmp_path, monkeypatch, capfd):
    """An error, memory and a crash are findings, whose input is kept; a target without faults has none."""
    monkeypatch.setattr(run_fuzz, "SEEDS", tmp_path)
    inputs, findings = run_fuzz.fuzz(Target("faulty", call, lambda: [b"abc"], (ValueError,)), 1, 1.0)

    assert 0 < findings <= inputs + findings
    assert all(b"\xff" in path.read_bytes() for path in (tmp_path / "faulty").iterdir())
    inputs, findings = run_fuzz.fuzz(Target("right", len, lambda: [b"abc"], ()), 1, 0.3)
    assert (inputs > 0, findings) == (True, 0)
