"""Names of the MongoDB collections and of the documents with a fixed id."""

from __future__ import annotations

from typing import NamedTuple, Self

__all__ = ["ABOUT", "CATALOG", "COLLECTIONS", "LIVE", "LOG_ID", "Namespace"]

COLLECTIONS = ("trials", "groups", "projects", "series", "outlines", "outcomes", "checkpoints", "dead_letters")
"""The collections of a projection, by their names without the suffix of the projection."""

LOG_ID = "log"
"""Id of the document in `checkpoints` that identifies the log from which the projection was folded."""

CATALOG = "projection"
"""The collection of the documents `ABOUT` and `LIVE`; not in `COLLECTIONS`, since the log does not determine these."""

ABOUT = "about"
"""Id of the document in `CATALOG` that describes a projection, before the suffix of the projection."""

LIVE = "live"
"""Id of the document in `CATALOG` of the database `<prefix>` that points to the live projection."""


class Namespace(NamedTuple):
    """The place of a projection in MongoDB: a database, and the suffix of the names of its collections there.

    As text, `<database>.<suffix>`, or the database alone without a suffix: so the pointer to the live projection and
    messages name it. The first projection has no suffix, nor have those of earlier versions, which made a database for
    each projection.

    Attributes:
        database: Name of the database.
        suffix: What follows the names of the collections, such as `~4` for `trials~4`; may be empty.
    """

    database: str
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the namespace of a text: names of databases contain no dot."""
        database, _, suffix = text.partition(".")
        return cls(database, suffix)

    def __str__(self) -> str:
        return f"{self.database}.{self.suffix}" if self.suffix else self.database

    def collection(self, name: str) -> str:
        """Return the name of a collection in the database.

        Args:
            name: Its name without the suffix, one of `COLLECTIONS`.
        """
        return name + self.suffix

    @property
    def about(self) -> str:
        """Id of the document in `CATALOG` of the database that describes the projection."""
        return ABOUT + self.suffix
