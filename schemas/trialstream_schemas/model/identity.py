"""Identity: the hash of a definition, and the addresses of trials.

The address (uid) of a trial is `<hash>_<revision>`, or `<hash>~<request>` until the revision is decided.
"""

from __future__ import annotations

import hashlib
import math
import struct

from trialstream_schemas.model.values import Value

__all__ = ["canonical", "digest", "group_uid", "hash_of", "trial_hash"]

# 128 bits: the probability of a collision among 10^15 definitions is below 10^-8.
_HASH_BYTES = 16


def canonical(x: Value) -> bytes:
    """The canonical bytes of a value: independent of the order of keys, different for different values.

    Values of different type or nesting are different. Each part begins with its type and its length or count, so the
    bounds between parts are unambiguous. NaN is one value, regardless of its payload bits; -0.0 is not 0.0.
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
    """Hash of some values.

    Returns:
        32 hexadecimal digits of BLAKE2b (RFC 7693) over the canonical bytes of the list of parts.
    """
    return hashlib.blake2b(canonical(list(parts)), digest_size=_HASH_BYTES).hexdigest()


def group_uid(name: str, project_id: str | None) -> str:
    """Uid of a group: the hash of its name and of the uid of its project."""
    return digest(name, project_id)


def trial_hash(
    name: str, version: str | None, parameters: dict[str, Value], project_id: str | None, group_id: str | None
) -> str:
    """Hash of the definition of a trial; all revisions share it."""
    return digest(name, version, parameters, project_id, group_id)


def hash_of(trial: str) -> str:
    """Hash in the address of a trial.

    Args:
        trial: `<hash>_<revision>` or `<hash>~<request>`.
    """
    return trial.partition("~")[0].partition("_")[0]
