"""What the commands and the dashboard show of the service that runs.

| module | has |
|---|---|
| `progress` | how far the live projection has folded the log |
| `projections` | the projections |
| `dead_letters` | the records that could not be folded |
| `spools` | the events that wait on this machine |
"""
