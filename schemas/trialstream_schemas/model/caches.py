"""Caches whose keys come from outside: bounded by the bytes that they keep, not by the number of their entries.

Whoever writes events chooses names and texts of up to 1 MiB, so 4,096 entries can be 4 GB.
tests/unit/test_caches.py lists every cache of the packages with its bound.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["ByteCache", "texts_bytes"]

K = TypeVar("K")
V = TypeVar("V")

# Memory of an entry beside its key and value: its place in the dict and small objects around it.
_ENTRY_BYTES = 400


class ByteCache(dict[K, V]):
    """A dict that is emptied before its entries take more than a number of bytes.

    Args:
        max_bytes: The bound, bytes.

    Attributes:
        max_bytes: The bound, bytes.
        taken: Bytes of the entries.
    """

    __slots__ = ("max_bytes", "taken")

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes
        self.taken = 0

    def keep(self, key: K, value: V, size: int) -> bool:
        """Keep an entry, unless it would take more than a quarter of the bound.

        Args:
            key: The key, which is not in the cache.
            value: The value.
            size: Size of key and value, bytes.

        Returns:
            Whether the entry is kept.
        """
        size += _ENTRY_BYTES
        if size > self.max_bytes // 4:
            return False
        if self.taken + size > self.max_bytes:
            self.clear()
            self.taken = 0
        self.taken += size
        self[key] = value
        return True


def texts_bytes(texts: Sequence[str]) -> int:
    """Memory of a tuple of texts, bytes."""
    return sum(map(sys.getsizeof, texts)) + 8 * len(texts)
