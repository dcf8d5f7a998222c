"""The consumer service: folds the log into MongoDB documents."""
