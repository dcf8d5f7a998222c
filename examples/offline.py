"""A training script without servers; its events are sent later.

python examples/offline.py                  # on the machine without a network
trialstream push trialstream-spool          # on one that reaches Kafka, with the folder
"""

from __future__ import annotations

import math

import trialstream as ts


def main() -> None:
    """Train without any server."""
    with ts.track("offline", project="examples", parameters={"lr": 0.1}, offline=True, capture=False) as t:
        for _ in t.timed(range(100), "step"):
            t.log({"loss": math.exp(-t.step / 20)}, step=t.step)
        health = t.health
    print(f"{health.spooled} events on disk, {health.dropped} dropped, {health.errors} errors")


if __name__ == "__main__":
    main()
