"""The log in Kafka.

| module | job |
|---|---|
| `clients` | how consumers, producers and admin clients are made and stopped, and their errors |
| `idling` | the consumer of the service: long fetches while it is idle |
| `topics` | creating and checking the topics; which partition an event belongs to |
| `ends` | the offset after the last event of each partition |
| `identity` | the first record of the registry, which identifies the log |
| `schemas` | the schemas topic |
| `fetch` | single fetches over the connections of any client |
| `screening`, `batches` | fetched batches: unpacked within limits; markers, aborted and unreadable ones become notes |
| `notes` | records that stand for offsets without a readable event |
| `records` | records in columns |
| `unpacking` | Kafka's codecs, into a buffer of a fixed size |
| `checksums` | CRC-32C |
| `fetching` | the records of several partitions, one fetch after the other |
| `trial_events` | the events of one trial, read from the log itself |
"""
