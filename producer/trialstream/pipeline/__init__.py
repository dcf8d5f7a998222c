"""The way of an event from a log call to Kafka: outbox, frames, backlog, sender, and the spiller to disk."""
