"""Names of the MongoDB collections and of the documents with a fixed id."""

from __future__ import annotations

__all__ = ["ABOUT", "CATALOG", "COLLECTIONS", "LIVE", "LOG_ID"]

COLLECTIONS = ("trials", "groups", "projects", "series", "outcomes", "checkpoints", "dead_letters")
"""The collections of a projection, which is one database."""

LOG_ID = "log"
"""Id of the document in `checkpoints` that identifies the log from which the projection was folded."""

CATALOG = "projection"
"""The collection of the documents `ABOUT` and `LIVE`; not in `COLLECTIONS`, since the log does not determine these."""

ABOUT = "about"
"""Id of the document in `CATALOG` that describes the projection."""

LIVE = "live"
"""Id of the document in `CATALOG` of the database `<prefix>` that points to the live projection."""
