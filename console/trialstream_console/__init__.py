"""The `trialstream` command and the local stack: real servers on this machine, without Docker."""
