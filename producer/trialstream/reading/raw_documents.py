"""Documents decoded in parts.

The driver decodes an answer of MongoDB, of up to 16 MiB, in one call of C code, which holds the interpreter: a document
of 40,000 metrics takes 0.2 s, in which no other thread of the process runs. Here, no call decodes more than a part.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from trialstream.reading.live import Document

__all__ = ["documents"]

# Decoded in at most 15 ms; the largest logged value is one part.
_PART_BYTES = 512 * 1024


def documents(batches: Iterable[bytes]) -> Iterator[Document]:
    """Decode the documents of a cursor.

    Args:
        batches: The batches of a raw cursor: documents in BSON, one after the other.
    """
    for batch in batches:
        begin = at = 0
        while at < len(batch):
            end = at + struct.unpack_from("<i", batch, at)[0]
            if end - begin > _PART_BYTES and at > begin:
                yield from bson.decode_all(batch[begin:at])
                begin = at
            if end - begin > _PART_BYTES:
                yield _decoded(RawBSONDocument(batch[begin:end]))
                begin = end
            at = end
        yield from bson.decode_all(batch[begin:])


def _decoded(value: Any) -> Any:
    if isinstance(value, RawBSONDocument):
        if len(value.raw) <= _PART_BYTES:
            return bson.decode(value.raw)
        return {key: _decoded(each) for key, each in value.items()}
    return [_decoded(each) for each in value] if isinstance(value, list) else value
