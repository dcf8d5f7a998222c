"""Cost of decoding an event, beside fastavro's reader, which checks nothing: `python benchmarks/decode.py`.

For each kind of event, the table has the microseconds of fastavro's record alone and of the event of `SchemaStore`,
which is checked, the best of several runs.
"""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Callable

from fastavro import parse_schema, schemaless_reader
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import HEADER_BYTES, SchemaStore, encode
from trialstream_schemas.wire.schemas import SCHEMAS

TRIAL = {"trial": "0" * 32 + "_0", "writer": "f" * 16, "seq": 300, "time": 1_700_000_000_000_000}


EVENTS = {
    "heartbeat": e.Heartbeat(**TRIAL),
    "status": e.StatusSet(**TRIAL, status=e.StatusRecord("Running", 100)),
    "tags, 3 values": e.TagsAdded(**TRIAL, values={"a": 1, "b": "text", "c": 0.5}),
    "4 chronos": e.ChronosFinished(
        **TRIAL, names=["step"], aggregators=[timeseries_aggregator], announced=[0], failed=[0], chronos=[0] * 4,
        times=[0, 10, 20, 30], elapsed=[0.25] * 4,
    ),
    "arguments, list of 20,000 floats": e.ArgumentsLogged(**TRIAL, values={"a": [0.5] * 20_000}),
}  # fmt: skip


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
    print(f"{'':34}{'fastavro':>10}{'decode':>10}")
    for name, event in EVENTS.items():
        data = encode(event)
        text = SCHEMAS[data[2:HEADER_BYTES]].replace(b'"logicalType": "timestamp-micros", ', b"")
        schema = parse_schema(json.loads(text))
        body = data[HEADER_BYTES:]
        alone = best(lambda body=body, schema=schema: schemaless_reader(io.BytesIO(body), schema, None))
        whole = best(lambda data=data: store.decode(data))
        print(f"{name:34}{alone:>8.1f}µs{whole:>8.1f}µs")


if __name__ == "__main__":
    main()
