"""The whole system in one process, without servers: behind `connect("memory:")` and `connect("spool:PATH")`.

The protocol is that of Kafka and MongoDB (`trialstream.kafka.protocol.LoggingProtocol`), with all its checks, frames,
requests and claims; events are encoded and decoded, and folded by the same functions. Two parts stand in for the
servers: a carrier that appends to a log in memory, and a reader of the documents that are folded from it.

| module | job |
|---|---|
| `backends` | the entry points of `connect`: which settings apply, and which store is opened |
| `spooled` | a store of what spools hold |
| `carrier` | from the backlog of a writer to the store |
| `reader` | the reader over the store |
| `feed` | the trials that change |
| `store` | the log, its fold and its documents |
| `finding` | filter, order, limit and projection, as one call of MongoDB |
| `matching`, `patterns`, `ordering`, `expressions`, `bson_order` | MongoDB's answers on plain documents |
"""
