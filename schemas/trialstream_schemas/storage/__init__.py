"""The document contract: the MongoDB documents that the consumer writes and readers read.

| module | job |
|---|---|
| `documents` | projects, groups, trials and outcomes to documents and back |
| `collections` | names of the collections and of the documents with a fixed id |
"""
