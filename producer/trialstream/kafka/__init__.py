"""The Protocol over Kafka and MongoDB.

| module | job |
|---|---|
| `protocol` | `LoggingProtocol`: the methods that log, create, claim and wait; `KafkaProtocol` |
| `session` | one connection: assembles the parts below, and opens and closes them |
| `servers` | what a session connects to: Kafka and MongoDB, or another log and its documents |
| `commands` | the events of the calls, with their checks |
| `creations` | checks of the objects that creations take |
| `log_calls` | the calls that log, for both protocols |
| `row_log` | the way of a row of metrics into the inbox |
| `rows` | checks of rows of metrics |
| `tensors` | values of metrics that are arrays or tensors |
| `claim_events` | the updates of a claim as one event |
| `subjects` | which trials, groups and projects are known to exist |
| `backpressure` | what happens to an event when memory and spool are full |
| `waits` | waiting until events are acknowledged, folded, or safe on disk |
| `requests` | events whose callers wait for the outcome |
| `claims`, `candidates` | the claim loop, and the documents that claims reserve |
| `chronos`, `heartbeats` | open chronos; events in the background |
"""
