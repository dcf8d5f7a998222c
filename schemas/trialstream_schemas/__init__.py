"""What producers and consumers agree on: events, their Avro form, the structures and their documents."""
