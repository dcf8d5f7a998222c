"""Reading the projection: queries, documents, histories and outcomes."""
