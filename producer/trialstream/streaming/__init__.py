"""Events of the log and changes of trials, as they happen.

| module | job |
|---|---|
| `opening` | `trialstream.stream`: its arguments, and the choice of the log |
| `blocking_stream`, `sync_stream` | the same for code that is not async |
| `replaying`, `copying` | the past at a pace (`pacing`): to a function, or to another prefix |
| `stream` | the iterator and its position |
| `merging` | the partitions of a stream in one order, within bounds of memory |
| `scan` | which records of a partition are events that the stream returns |
| `decoding` | from these to what it returns |
| `decisions` | what the log has decided about trials and groups |
| `filters`, `positions` | which events, from where on |
| `items`, `rows` | what a stream returns |
| `source`, `kafka_log` | the interface of a log, and the log in Kafka |
| `watch` | `trialstream.watch` |
| `blocking` | `trialstream.sync.watch` |
| `watching` | looks at the changes: what is read, what is sent again, what a cursor means |
| `changes` | a change, and the changes of one look |
"""
