"""The fuzzing's targets on their seeds, on earlier findings, and on a few mutations; `make fuzz` makes many more."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import suppress

import pytest
from mutation import mutated
from targets import INPUT_BYTES, MAX_BYTES, TARGETS, saved

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
