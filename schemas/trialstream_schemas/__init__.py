"""The contract between producers and consumers: the data model, the events on the wire, and the stored documents."""
