"""The wire format.

| module | job |
|---|---|
| `events` | one dataclass for each event |
| `codec` | events to bytes and back |
| `frames` | the codec of `MetricsLogged`, the event of which nearly all of a log consists |
| `batches` | many frames decoded at once |
| `schemas` | the Avro schemas of the events |
| `checker`, `limits` | checks of bytes from outside; limits of events and records |
| `envelope` | the bounds of an event's ids |
| `varint` | Avro's integers |
"""
