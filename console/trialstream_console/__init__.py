"""The `trialstream` command and the local stack."""
