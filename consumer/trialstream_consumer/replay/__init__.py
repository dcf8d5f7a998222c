"""Folding the log again.

| module | job |
|---|---|
| `rebuild` | a new projection that replaces the live one, or one as of a time |
| `verify` | comparing every document of the live projection with the log |
| `opening` | the common beginning of both |
| `replay` | folding all partitions outside of the consumer group |
| `sharing` | processes that fold a share of the partitions each |
| `share` | what such a process runs |
| `diff` | comparing two projections document by document |
| `trial_states` | the states of one trial at any time |
| `trial_log` | the records of one trial |
"""
