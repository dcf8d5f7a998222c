"""`python -m benchmarks`: real servers, all benchmarks in one run, one table."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import tempfile
import time
from pathlib import Path

import structlog
from trialstream_console.local import LocalStack

from benchmarks import (
    call,
    cliffs,
    commands,
    dashboard,
    folding,
    growth,
    pages,
    produce,
    reading,
    replay,
    starts,
    streaming,
    tracking,
    training,
    training_gpu,
    weight,
)
from benchmarks.bench import Bench
from benchmarks.earlier import checkout
from benchmarks.report import Row, machine, save, table, write_json

_ALL = {
    "call": call,
    "cliffs": cliffs,
    "produce": produce,
    "training": training,
    "tracking": tracking,
    "training_gpu": training_gpu,
    "folding": folding,
    "replay": replay,
    "streaming": streaming,
    "commands": commands,
    "reading": reading,
    "dashboard": dashboard,
    "pages": pages,
    "growth": growth,
    "starts": starts,
    "weight": weight,
}
_QUICK = ("call", "produce", "folding", "commands", "dashboard")


def main() -> None:
    """Run the chosen benchmarks and print their table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"of {', '.join(_ALL)}; all by default")
    parser.add_argument("--quick", action="store_true", help="the essential rows, less thoroughly, in two minutes")
    parser.add_argument("--before", metavar="COMMIT", help="an earlier commit, whose figures are measured in turn")
    parser.add_argument("--save", action="store_true", help="write the table to docs/performance.md")
    options = parser.parse_args()
    if unknown := set(options.only) - set(_ALL):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(_ALL)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # rebuild logs here
    names = options.only or (_QUICK if options.quick else list(_ALL))
    described = machine()
    print(", ".join(f"{key} {each}" for key, each in described.items()), flush=True)
    rows: list[Row] = []
    with contextlib.ExitStack() as opened:
        earlier = opened.enter_context(checkout(options.before)) if options.before else None
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="trialstream-bench-"))
        stack = opened.enter_context(LocalStack(consumer=False))
        bench = Bench(stack, options.quick, Path(folder))
        for name in names:
            began = time.perf_counter()
            found = asyncio.run(_ALL[name].run(bench))
            if earlier is not None:
                found = earlier.beside(name, found, quick=options.quick)
            print(f"\n{name}, {time.perf_counter() - began:.0f} s\n{table(found)}", flush=True)
            write_json(name, found)
            rows += found
    reached = [mark.reached for row in rows for mark in row.marks]
    print(f"\n{sum(reached)} of {len(reached)} marks reached")
    if options.save:
        save(rows, described)


if __name__ == "__main__":
    main()
