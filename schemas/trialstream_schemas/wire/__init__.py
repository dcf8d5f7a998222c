"""The wire format.

| module | job |
|---|---|
| `events` | one dataclass for each event |
| `codec` | events to bytes and back |
| `frames` | the codec of `MetricsLogged`, the event of which nearly all of a log consists |
| `batches` | many frames decoded at once |
| `long_frames` | frames that are checked and not decoded |
| `schemas` | the Avro schemas of the events |
| `schema_reader` | schemas of others, read at a bounded cost |
| `reader` | readers of all other events, made from their schemas, which check bytes from outside |
| `fit`, `limits` | the check of records of other versions; limits of events and records |
| `envelope` | the bounds of an event's ids |
| `heads` | the ids of an event, read without decoding the rest |
| `creations` | the trial, project or group that a creation makes |
| `varint` | Avro's integers |
"""
