"""Reading the projection.

| module | job |
|---|---|
| `protocol` | `ReadingProtocol`: `get_*` and `fetch_*`, for every protocol |
| `read_only` | the protocol that only reads, with MongoDB alone |
| `reader` | the interface to what is read: queries as users write them |
| `mongo` | the reader over MongoDB |
| `offline` | the reader of an offline protocol |
| `buckets` | which buckets of a history are read |
| `live` | which projection is the live one, and its collections |
| `feed`, `mongo_feed` | which trials change: the interface, and MongoDB's change streams |
| `budget` | the time that is left to a call |
| `outcomes`, `folded`, `polling` | waiting for outcomes and for checkpoints |
| `query`, `operands`, `sorting`, `paths` | checks and translation of queries |
| `fields` | fields of partial objects |
| `values` | values of single fields of many trials |
| `uri` | the check of MongoDB's URI |
| `checks` | checks of arguments and outcomes |
| `pieces` | long lists of ids in requests of bounded size |
| `history` | buckets to arrays; downsampling |
| `rewinds` | the superseded rows of a bucket |
| `bands` | statistics over many trials, on a common grid of steps |
| `views` | histories by writer or rank, and reduced by step |
"""
