"""The Protocol over Kafka: sessions, commands, claims and chronos."""
