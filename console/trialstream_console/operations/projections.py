"""The projections of a prefix."""

from __future__ import annotations

from trialstream.config import Config
from trialstream_consumer.projection.catalog import Catalog, Projection

__all__ = ["list_projections"]


async def list_projections(config: Config) -> list[Projection]:
    """List the projections, the live one first.

    Args:
        config: Where MongoDB is, and the prefix.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    async with Catalog(config) as found:
        return await found.listing()
