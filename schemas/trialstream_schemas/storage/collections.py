"""Names of the MongoDB collections and of the documents with a fixed id."""

from __future__ import annotations

__all__ = ["ABOUT", "CATALOG", "COLLECTIONS", "LIVE", "LOG_ID"]

# The collections of a projection, which is one database.
COLLECTIONS = ("trials", "groups", "projects", "series", "outcomes", "checkpoints", "dead_letters")
# Id of the document in `checkpoints` that names the log from which the projection was folded.
LOG_ID = "log"
# The collection that describes a projection (document `about`). The one in the database `<prefix>` also holds the
# pointer to the live projection (document `live`).
CATALOG, ABOUT, LIVE = "projection", "about", "live"
