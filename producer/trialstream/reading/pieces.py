"""Pieces of long lists of ids, since MongoDB takes requests of at most 16 MiB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["pieces"]

# A quarter of the largest request: it has other parts too, and a pattern has more bytes than its id.
_MAX_BYTES = 4 * 1024 * 1024
# Upper bound of the bytes that BSON adds to an element of an array.
_ELEMENT_BYTES = 16


def pieces(ids: Iterable[str], most: int = _MAX_BYTES) -> Iterator[list[str]]:
    """Cut a list of ids into pieces, in its order; none of an empty one.

    Args:
        ids: The ids.
        most: Maximum size of a piece in BSON, bytes; a single longer id is a piece too.
    """
    piece: list[str] = []
    size = 0
    for each in ids:
        taken = _ELEMENT_BYTES + (len(each) if each.isascii() else len(each.encode()))
        if piece and size + taken > most:
            yield piece
            piece, size = [], 0
        piece.append(each)
        size += taken
    if piece:
        yield piece
