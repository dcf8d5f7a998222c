"""The document contract: what the consumer writes to MongoDB and readers read from it."""
