"""What trialstream costs, beside its physical floors and beside what people would use instead: `make bench`."""
