"""The state of the running service, for the commands and the dashboard.

| module | has |
|---|---|
| `progress` | how far the live projection has folded the log |
| `projections` | the projections |
| `dead_letters` | the records that could not be folded |
| `spools` | the events that wait on this machine |
"""
