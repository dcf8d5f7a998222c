"""URIs of MongoDB that are accepted without the driver."""

from __future__ import annotations

import trialstream as ts
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from trialstream.reading.uri import _PLAIN


@given(st.from_regex(_PLAIN, fullmatch=True))
def test_the_driver_takes_every_plain_uri(uri):
    """A URI that is accepted without the driver is one that the driver accepts."""
    MongoClient(uri, connect=False).close()


def test_the_default_is_plain():
    """The default needs no driver, nor does a replica set of several hosts."""
    assert _PLAIN.fullmatch(ts.Config().mongo)
    assert _PLAIN.fullmatch("mongodb://a.example:27017,b.example:27018/?replicaSet=rs0")
