"""What happens, as it happens: the trials that change.

| module | job |
|---|---|
| `watch` | `trialstream.watch` |
| `blocking` | `trialstream.sync.watch` |
| `watching` | looks at the changes: what is read, what is sent again, what a cursor means |
| `changes` | a change, and the changes of one look |
"""
