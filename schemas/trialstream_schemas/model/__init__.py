"""The data model: projects, groups, trials, statuses, values, aggregators and history."""
