"""Costs of trialstream beside physical floors and beside other trackers: `make bench`."""
