"""Documents that are decoded in parts are those that the driver decodes."""

from __future__ import annotations

from unittest import mock

import bson
from hypothesis import given
from hypothesis import strategies as st
from trialstream.reading import raw_documents

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary()
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
VALUES = st.recursive(
    SCALARS | st.text(st.characters(codec="utf-8")),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(KEYS, parts, max_size=4),
    max_leaves=10,
)
DOCUMENTS = st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=6)


@given(st.lists(DOCUMENTS, max_size=3), st.integers(5, 200))
def test_documents_in_parts(batches, part):
    """Documents of any number and size are decoded whole and in their order, whatever the size of the parts."""
    raw = [b"".join(map(bson.encode, each)) for each in batches]

    with mock.patch.object(raw_documents, "_PART_BYTES", part):
        found = list(raw_documents.documents(raw))

    assert found == [each for batch in batches for each in batch]
    assert all(type(each) is dict for each in found)
