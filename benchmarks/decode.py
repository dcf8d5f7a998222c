"""Cost of the check of a body beside its decoding: `python benchmarks/decode.py`.

Frames of metrics are checked by their decoder. For each other kind of event, the table has the microseconds of the
check alone and of decoding with it, the best of several runs.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable

from fastavro import parse_schema
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.checker import checker
from trialstream_schemas.wire.codec import HEADER_BYTES, SchemaStore, encode
from trialstream_schemas.wire.limits import MAX_VALUES
from trialstream_schemas.wire.schemas import SCHEMAS

TRIAL = {"trial": "0" * 32 + "_0", "writer": "f" * 16, "seq": 300, "time": 1_700_000_000_000_000}


EVENTS = {
    "heartbeat": e.Heartbeat(**TRIAL),
    "tags, 3 values": e.TagsAdded(**TRIAL, values={"a": 1, "b": "text", "c": 0.5}),
    "arguments, list of 20,000 floats": e.ArgumentsLogged(**TRIAL, values={"a": [0.5] * 20_000}),
}


def best(call: Callable[[], object]) -> float:
    """Return the microseconds of a call, the best of seven runs of about 50 ms."""
    call()
    started = time.perf_counter()
    call()
    calls = max(1, int(0.05 / (time.perf_counter() - started)))
    found = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - started) / calls)
    return min(found) * 1e6


def main() -> None:
    """Print the table."""
    store = SchemaStore()
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    print(f"{'':34}{'check':>10}{'decode':>10}   share")
    for name, event in EVENTS.items():
        data = encode(event)
        check = checker(parse_schema(json.loads(SCHEMAS[data[2:HEADER_BYTES]])))
        alone = best(lambda data=data, check=check: check(data, HEADER_BYTES, [MAX_VALUES]))
        whole = best(lambda data=data: store.decode(data))
        print(f"{name:34}{alone:>8.1f}µs{whole:>8.1f}µs{alone / whole:>8.0%}")


if __name__ == "__main__":
    main()
