"""The log in Kafka: its topics, clients and schemas."""
