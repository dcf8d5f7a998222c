"""Folding the log again.

| module | job |
|---|---|
| `rebuild` | a new projection that replaces the live one, or one as of a time |
| `verify` | comparing every document of the live projection with the log |
| `opening` | the common beginning of both |
| `replay` | folding all partitions outside of the consumer group |
| `diff` | comparing two projections document by document |
"""
