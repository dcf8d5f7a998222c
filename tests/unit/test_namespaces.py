"""The place of a projection in MongoDB: its text, and the names of its collections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream_schemas.storage.collections import COLLECTIONS, Namespace

PREFIXES = st.from_regex(r"[A-Za-z0-9_-]{1,48}", fullmatch=True)
ENDS = st.integers(0, 10**6).map(str) | st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,63}", fullmatch=True)
PLACES = st.builds(
    lambda prefix, end, form: {
        "first": Namespace(prefix),
        "suffix": Namespace(prefix, f"~{end}"),
        "database": Namespace(f"{prefix}~{end}"),
    }[form],
    PREFIXES,
    ENDS,
    st.sampled_from(["first", "suffix", "database"]),
)


@pytest.mark.parametrize(
    ("text", "place"),
    [("lab", ("lab", "")), ("lab~3", ("lab~3", "")), ("lab.~4", ("lab", "~4")), ("lab.~july", ("lab", "~july"))],
    ids=["the first", "of an earlier version", "rebuilt", "named"],
)
def test_the_text_of_a_place(text, place):
    """Pointers of earlier versions have no dot, and name a database."""
    assert Namespace.parse(text) == place
    assert str(Namespace(*place)) == text


@given(PLACES, PLACES)
def test_places_share_no_collection(one, other):
    """The text identifies a place, and two places have no collection in common, whatever the prefixes."""
    assert Namespace.parse(str(one)) == one
    names = [{(each.database, each.collection(name)) for name in COLLECTIONS} for each in (one, other)]
    assert one == other or names[0].isdisjoint(names[1])
    assert one == other or (one.database, one.about) != (other.database, other.about)
