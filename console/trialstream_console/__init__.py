"""The `trialstream` command, the query language, the dashboard, and the local stack: real servers, without Docker."""
