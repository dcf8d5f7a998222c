"""The projection: the MongoDB documents that the log is folded into, and the only code that writes them.

| module | job |
|---|---|
| `catalog` | the projections of a prefix: begins, lists and drops them |
| `store` | loads state and writes batches, one transaction each |
| `ownership` | checkpoints, epochs and the pointer to the live projection |
| `dead_letters` | records that could not be folded |
| `indexes` | collections and indexes |
| `client` | the connection to MongoDB, and its errors |
"""
