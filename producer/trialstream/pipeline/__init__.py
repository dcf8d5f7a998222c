"""Carries events from log calls to Kafka: outbox, frames, backlog, sender, and the spiller to disk."""
