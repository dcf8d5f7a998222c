"""Random changes of bytes, of the kinds on which decoders fail: lengths, counts, indices, cuts and repetitions."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["mutated"]

# Zigzag varints of lengths, counts and indices that decoders should refuse, and bytes at the edges.
_PIECES = [
    b"\x00", b"\x01", b"\x02", b"\x7f", b"\x80", b"\xff", b"\x80\x00",
    b"\xfe\x01", b"\x80\x80\x80\x80\x10", b"\xfe\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff" * 12, b'"', b"{", b"[", b"}", b"]", b"null", b"9" * 20,
]  # fmt: skip
_CHANGES = 4
_REPETITIONS = (2, 10, 1000, 100_000)


def mutated(rng: random.Random, corpus: Sequence[bytes], max_bytes: int) -> bytes:
    """Return a random input of the corpus with a few random changes.

    Args:
        rng: Source of the randomness.
        corpus: Inputs, at least one.
        max_bytes: Maximum size of the result, bytes.
    """
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.randint(1, _CHANGES)):
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice((1, 2, 8, 64)))
        match rng.randrange(7):
            case 0:
                data[at:end] = rng.choice(_PIECES)
            case 1:
                data[at:at] = rng.choice(_PIECES)
            case 2 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 3:
                del data[at:end]
            case 4:
                del data[at:]
            case 5:
                other = rng.choice(corpus)
                start = rng.randint(0, len(other))
                data[at:end] = other[start : start + rng.choice((4, 32, 4096))]
            case _:  # few are long: a long input takes as long as a thousand short ones
                times = rng.choice(_REPETITIONS) if rng.randrange(50) == 0 else 2
                data[at:at] = data[at:end] * min(times, 1 + max_bytes // max(1, end - at))
    return bytes(data[:max_bytes])
