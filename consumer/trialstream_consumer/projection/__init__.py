"""The projection: the MongoDB documents into which the log is folded, and the only code that writes them.

| module | job |
|---|---|
| `catalog` | begins, finishes, lists and drops the projections of a prefix |
| `store` | loads state and writes batches, one transaction each |
| `ownership` | checkpoints, epochs and the pointer to the live projection |
| `dead_letters` | records that could not be folded |
| `indexes` | collections and indexes |
| `deployment` | check at start that MongoDB has transactions |
| `client` | the connection to MongoDB, and its errors |
"""
