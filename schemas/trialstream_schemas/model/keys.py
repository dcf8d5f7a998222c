"""Keys of users in documents: escaped, so that none is a dotted path, an operator or a key that trialstream adds."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["escape_key", "unescape_key"]

_UNESCAPES = {"%25": "%", "%2E": ".", "%24": "$"}
_ESCAPED = re.compile("|".join(_UNESCAPES))
# The escaped form of the empty key, which no dotted path could address. No other key is escaped to a single '%'.
_EMPTY = "%"
# Length of the longest key whose escaped form is cached, characters. It bounds the cache to 9 MiB.
_MAX_CACHED = 128


def escape_key(key: str) -> str:
    """Escape a user's key for documents: `%`, `.` and `$` are percent-encoded, and the empty key becomes `%`."""
    return _cached(key) if len(key) <= _MAX_CACHED else _escaped(key)


def _escaped(key: str) -> str:
    return key.replace("%", "%25").replace(".", "%2E").replace("$", "%24") if key else _EMPTY


_cached = lru_cache(maxsize=4096)(_escaped)  # each batch escapes the keys of its trials again


def unescape_key(key: str) -> str:
    """Restore a user's key from its escaped form in a document."""
    if "%" not in key:
        return key
    return "" if key == _EMPTY else _ESCAPED.sub(lambda found: _UNESCAPES[found[0]], key)
