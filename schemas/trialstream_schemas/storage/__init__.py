"""The document contract: the MongoDB documents that the consumer writes and readers read."""
