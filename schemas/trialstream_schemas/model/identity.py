"""Identity: the hash that names a definition, and the addresses of trials."""

from __future__ import annotations

import hashlib
import math
import struct

from trialstream_schemas.model.values import Value

__all__ = ["canonical", "digest", "group_uid", "hash_of", "trial_hash"]

# 128 bits: among 10^15 definitions a collision is less likely than 10^-8.
_HASH_BYTES = 16


def canonical(x: Value) -> bytes:
    """One byte string per value, whatever the order of its keys; values of different type or nesting never share one.

    Every part is tagged with its type and led by its length or count, so nothing can run into its neighbour. NaN is one
    value, whatever its payload bits; -0.0 is not 0.0.
    """
    match x:
        case None:
            return b"n"
        case bool():
            return b"b1" if x else b"b0"
        case int():
            digits = str(x).encode()
            return b"i%d:%b" % (len(digits), digits)
        case float():
            return b"d" + struct.pack(">d", math.nan if math.isnan(x) else x)
        case str():
            text = x.encode()
            return b"s%d:%b" % (len(text), text)
        case bytes():
            return b"y%d:%b" % (len(x), x)
        case list():
            return b"l%d:" % len(x) + b"".join(map(canonical, x))
        case dict():
            items = sorted((key.encode(), canonical(each)) for key, each in x.items())
            return b"m%d:" % len(items) + b"".join(b"%d:%b%b" % (len(key), key, each) for key, each in items)


def digest(*parts: Value) -> str:
    """Hash of the parts: 32 hexadecimal digits of BLAKE2b (RFC 7693) over their canonical form."""
    return hashlib.blake2b(canonical(list(parts)), digest_size=_HASH_BYTES).hexdigest()


def group_uid(name: str, project_id: str | None) -> str:
    """The uid of a group."""
    return digest(name, project_id)


def trial_hash(
    name: str, version: str | None, parameters: dict[str, Value], project_id: str | None, group_id: str | None
) -> str:
    """The hash that all revisions of a trial share."""
    return digest(name, version, parameters, project_id, group_id)


def hash_of(trial: str) -> str:
    """The hash in the address of a trial."""
    return trial.partition("~")[0].partition("_")[0]
