"""The `trialstream` command, the query language, and the local stack: real servers on this machine, without Docker."""
