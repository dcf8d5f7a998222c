"""The data model.

| module | job |
|---|---|
| `trial`, `status` | projects, groups and trials; statuses |
| `attempts` | attempts of a trial and their participants; which rows are superseded |
| `identity` | the hash of a definition, and the addresses of trials |
| `values`, `steps` | what users may log: checks at the call |
| `forms`, `keys` | values and keys as events, documents and JSON store them |
| `aggregators` | what is kept of a stream of observations |
| `history`, `columns` | rows in bounded buckets of packed columns |
| `outline` | of a full bucket, the rows that a plot of whole curves needs |
| `outcome` | the outcome of a request |
| `caches` | caches that are bounded in bytes |
| `times` | `datetime` and microseconds |
"""
