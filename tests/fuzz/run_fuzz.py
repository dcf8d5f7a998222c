"""Fuzzing by random mutation: `make fuzz DURATION=600`, or `run_fuzz.py --duration 60 --target codec`.

Each target runs in a child process, which takes its share of the time. An input whose result is of a new kind (type and
text of the error, without its numbers) joins the inputs that are mutated. A finding is written to the folder of seeds,
where `tests/unit/test_fuzz_seeds.py` runs it again, and the target goes on in another child.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import multiprocessing
import os
import random
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mutation import mutated
from targets import INPUT_BYTES, MAX_BYTES, MAX_SECONDS, SEEDS, TARGETS, Target, saved

# The child is killed after this time without a finished input, wall-clock seconds: it may wait for the processor.
_HANG_SECONDS = 20.0
_POLL_SECONDS = 0.1
_CORPUS = 500
# Texts of errors quote what they were given, so that nearly each would be of a new kind.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|b'[^']*'|\d+")


@dataclass
class _Shared:
    """Memory that a child shares with its parent: the number of finished inputs, the present input, and the finding."""

    memory: mmap.mmap

    @property
    def done(self) -> int:
        return int.from_bytes(self.memory[:8], "little")

    @done.setter
    def done(self, number: int) -> None:
        self.memory[:8] = number.to_bytes(8, "little")

    @property
    def given(self) -> bytes:
        return self.memory[16 : 16 + int.from_bytes(self.memory[8:16], "little")]

    @given.setter
    def given(self, data: bytes) -> None:
        self.memory[8:16] = len(data).to_bytes(8, "little")
        self.memory[16 : 16 + len(data)] = data


def _peak_bytes() -> int:
    """The most memory that this process has had since `_forget_peak`, bytes."""
    found = re.search(rb"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_bytes())
    assert found is not None
    return int(found[1]) * 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def fault_of(target: Target, data: bytes) -> tuple[str | None, str]:
    """Call a target.

    Returns:
        Why the input is a finding, or None; and the kind of the result.
    """
    _forget_peak()
    before, began = _peak_bytes(), time.process_time()
    kind = "read"
    try:
        target.call(data)
    except target.allowed as error:
        kind = f"{type(error).__name__} {_QUOTED.sub('', str(error))[:200]}"
    except Exception as error:  # noqa: BLE001 (this is what is looked for)
        return f"{type(error).__name__}: {str(error)[:200]}", ""
    seconds = time.process_time() - began
    if seconds > MAX_SECONDS:
        return f"took {seconds:.1f} s", ""
    taken = _peak_bytes() - before
    if taken > MAX_BYTES + len(data):
        return f"took {taken // 2**20} MiB for {len(data)} bytes", ""
    return None, kind


def _child(target: Target, seed: str, seconds: float, shared: _Shared) -> None:
    rng = random.Random(seed)
    corpus = [*target.seeds(), *(path.read_bytes() for path in saved(target))]
    kinds: set[str] = set()
    for data in corpus:
        fault_of(target, data)  # fills the caches
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        data = mutated(rng, corpus, INPUT_BYTES)
        shared.given = data
        fault, kind = fault_of(target, data)
        shared.done += 1
        if fault is not None:
            print(f"{target.name}: {fault}", file=sys.stderr, flush=True)
            os._exit(1)
        if kind not in kinds and len(corpus) < _CORPUS:
            kinds.add(kind)
            corpus.append(data)


def fuzz(target: Target, seed: int, seconds: float) -> tuple[int, int]:
    """Fuzz a target.

    Args:
        target: The target.
        seed: Seed of the random numbers.
        seconds: For how long, seconds.

    Returns:
        Number of inputs, and number of findings.
    """
    deadline = time.monotonic() + seconds
    inputs, findings = 0, 0
    while (left := deadline - time.monotonic()) > 0:
        shared = _Shared(mmap.mmap(-1, 16 + INPUT_BYTES))
        process = multiprocessing.get_context("fork").Process(
            target=_child, args=(target, f"{seed} {target.name} {findings}", left, shared)
        )
        process.start()
        done, moved = 0, time.monotonic()
        while process.is_alive():
            process.join(_POLL_SECONDS)
            if shared.done != done:
                done, moved = shared.done, time.monotonic()
            elif time.monotonic() - moved > _HANG_SECONDS:
                print(f"{target.name}: took more than {_HANG_SECONDS:g} s", file=sys.stderr)
                process.kill()
        inputs += shared.done
        if process.exitcode:
            findings += 1
            _save(target, shared.given)
    return inputs, findings


def _save(target: Target, data: bytes) -> None:
    path = SEEDS / target.name / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"{target.name}: written to {path}", file=sys.stderr)


def main() -> int:
    """Fuzz all targets, or those that are named, and print one line; the exit code is 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="may be repeated; default: all")
    given = parser.parse_args()
    names = given.target or list(TARGETS)
    results = [fuzz(TARGETS[name], given.seed, given.duration / len(names)) for name in names]
    inputs, findings = (sum(each) for each in zip(*results, strict=True))
    print(f"fuzz: {inputs:,} inputs on {len(names)} targets in {given.duration:g} s, {findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
