"""The way of an event from a log call to Kafka.

| module | job |
|---|---|
| `inbox` | where log calls append, from any thread |
| `outbox` | gathers what was logged into frames, makes events of it, and numbers them |
| `frames` | rows that will be one event |
| `late`, `held` | rows with values that a device is still computing, and what waits behind them |
| `entry` | an event in the backlog, and its encoding |
| `backlog` | all events until Kafka has acknowledged them, in one order through memory and disk |
| `queue` | the entries of one partition in memory |
| `sender` | from the backlog to Kafka |
| `refusals` | the events that Kafka refuses because they are too large |
| `outage` | warnings while Kafka acknowledges nothing |
| `spiller` | between the backlog and the spool on disk |
| `watermark` | the events that a read must wait for |
| `signals` | wake-ups and progress |
| `carrier` | the interface of what carries events from the backlog to a log |
| `pipeline` | the carrier to Kafka: assembles backlog, sender and spiller |
| `readmission` | refused events as part of their spool again |
| `push` | sends the spools of processes that have ended |
| `append` | sends events that were made elsewhere, with their own writers, numbers and times |
"""
