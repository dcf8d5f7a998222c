"""The projection: the MongoDB documents that the fold is stored in."""
