"""The document contract: the MongoDB documents that the consumer writes and readers read.

| module | job |
|---|---|
| `documents` | projects, groups and trials to documents and back |
| `outcomes` | outcomes to documents and back |
| `collections` | names of the collections and of the documents with a fixed id |
"""
