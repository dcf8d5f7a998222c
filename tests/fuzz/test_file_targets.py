"""The fuzz targets of files: seeds, cut anywhere and with bytes changed, raise nothing but the allowed errors."""

from __future__ import annotations

import random

import pytest
from file_targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=[each.name for each in TARGETS])
def test_seeds_and_their_neighbours(target):
    """A sample of cuts, changed bytes and numbers that claim too much, from a fixed start."""
    random_ = random.Random(1)
    for seed in target.seeds:
        _run(target, seed)
        for _ in range(60):
            at = random_.randrange(len(seed) + 1)
            claim = random_.choice([b"\xfe\xff\xff\xff\xff\x1f", b"\x01", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"])
            _run(target, seed[:at])
            _run(target, seed[:at] + bytes([random_.randrange(256)]) + seed[at + 1 :])
            _run(target, seed[:at] + claim + seed[at + len(claim) :])


def _run(target, data):
    try:
        target.run(data)
    except target.allowed as error:
        assert len(str(error)) < 1000  # noqa: PT017 (one message of many)
