"""Pieces of long lists, since MongoDB takes requests of at most 16 MiB, and what is read is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["cut", "pieces"]

T = TypeVar("T")

# A quarter of the largest request: it has other parts too, and a pattern has more bytes than its id.
_MAX_BYTES = 4 * 1024 * 1024
# Upper bound of the bytes that BSON adds to an element of an array.
_ELEMENT_BYTES = 16


def cut(items: Iterable[T], sizes: Iterable[int], most: int) -> Iterator[list[T]]:
    """Cut a list into pieces, in its order; none of an empty one.

    Args:
        items: The items.
        sizes: Their sizes.
        most: Maximum size of a piece; a single larger item is a piece too.
    """
    piece: list[T] = []
    whole = 0
    for each, taken in zip(items, sizes, strict=True):
        if piece and whole + taken > most:
            yield piece
            piece, whole = [], 0
        piece.append(each)
        whole += taken
    if piece:
        yield piece


def pieces(ids: Iterable[str], most: int = _MAX_BYTES) -> Iterator[list[str]]:
    """Cut a list of ids into pieces of which each fits a request.

    Args:
        ids: The ids.
        most: Maximum size of a piece in BSON, bytes; a single longer id is a piece too.
    """
    texts = list(ids)
    return cut(texts, map(_element_bytes, texts), most)


def _element_bytes(text: str) -> int:
    return _ELEMENT_BYTES + (len(text) if text.isascii() else len(text.encode()))
