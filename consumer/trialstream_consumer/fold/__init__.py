"""The fold: the meaning of each event, as pure functions over the state of a partition."""
