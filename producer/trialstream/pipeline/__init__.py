"""The pipeline from log calls to Kafka: outbox, open frames, backlog, sender, and the spiller, which uses the disk."""
