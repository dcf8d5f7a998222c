"""The wire format: typed events and their Avro encoding."""
