"""The `trialstream` command, the query language, the dashboard, and the local stack: real servers on this machine, without Docker."""
