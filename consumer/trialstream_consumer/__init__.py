"""The consumer service: folds the log into MongoDB documents.

| module | job |
|---|---|
| `service` | one member of the consumer group, with a worker for each of its partitions |
| `worker` | folds the records of one partition, batch by batch |
| `log_watch` | notices that the topics were recreated |
| `routing` | refuses events that belong to another partition |
| `fold` | the meaning of each event, as pure functions |
| `projection` | the documents in MongoDB |
| `replay` | rebuild and verify |
| `memory` | the whole system in one process, without servers |
| `archive` | the log as one file, and back |
| `processes` | child processes that end with their parent |
| `progress` | the callback that reports progress |
"""
