"""The stored forms of values and keys; the property tests have arbitrary ones."""

from __future__ import annotations

import itertools
import json
import math

import bson
import pytest
from trialstream_schemas.model import forms, keys, values
from trialstream_schemas.model.keys import escape_key, unescape_key

ODD_KEYS = [
    "", " ", "a", "a.b", ".", "..", "$", "$set", "a$b", "%", "%%", "%25", "%2E", "%24", "%2e", "%kind", "%float",
    "_id", "a b", "é", "学习率", "\U0001f600", "\n", "\u2028", "0", "1",
]  # fmt: skip


@pytest.mark.parametrize("key", ODD_KEYS, ids=repr)
def test_key_comes_back(key):
    """Unescaping restores any key; the escaped form has no dot, is no operator and is no key of trialstream's own."""
    escaped = escape_key(key)

    assert unescape_key(escaped) == key
    assert escaped
    assert "." not in escaped
    assert "$" not in escaped
    assert escaped != "%kind"


def test_escaped_keys_differ():
    """Different keys have different escaped forms, and plain ones stay as they are."""
    escaped = [escape_key(key) for key in ODD_KEYS]

    assert len(set(escaped)) == len(ODD_KEYS)
    assert escape_key("learning rate") == "learning rate"


def test_only_short_keys_are_kept_in_memory():
    """A key of a thousand characters is escaped like a short one, and is not cached."""
    before = keys._cached.cache_info().currsize
    long = ["%.$" * 300 + str(i) for i in range(9)]

    assert [unescape_key(escape_key(each)) for each in long] == long
    assert keys._cached.cache_info().currsize == before


def test_keys_keep_their_order():
    """Every form keeps the order of the keys of a dict."""
    x = dict.fromkeys(reversed(ODD_KEYS), 1)

    found = [
        values.value(x, "p"),
        forms.from_avro(forms.to_avro(x)),
        forms.from_document(bson.decode(bson.encode({"x": forms.to_document(x)}))["x"]),
        forms.from_json(json.loads(json.dumps(forms.to_json(x)))),
    ]

    assert [list(form) for form in found] == [list(x)] * 4


def test_integers_come_back_from_mongodb_as_int():
    """A large integer that is read from MongoDB is an int, not the driver's subclass."""
    found = forms.from_document(bson.decode(bson.encode({"x": [2**40, {"a": 2**40}]}))["x"])

    assert type(found[0]) is int
    assert type(found[1]["a"]) is int


def test_json_is_strict():
    """The JSON form has no NaN and no bytes, which RFC 8259 does not allow, and restores them exactly."""
    x = {"a": [math.inf, -math.inf, b"\0\xff"], "%float": {"%bytes": "no tag"}, "%": -0.0}

    text = json.dumps(forms.to_json(x), allow_nan=False)
    back = forms.from_json(json.loads(text))

    assert back == x
    assert math.copysign(1, back["%"]) == -1
    assert math.isnan(forms.from_json(json.loads(json.dumps(forms.to_json(math.nan), allow_nan=False))))


def test_json_tags_are_not_users_dicts():
    """A user's dict whose key resembles a tag is not taken for a tagged scalar."""
    assert forms.is_json_tag(forms.to_json(math.nan))
    assert forms.is_json_tag(forms.to_json(b""))
    assert not any(
        forms.is_json_tag(forms.to_json(x))
        for x in ({"%float": "nan"}, {"%bytes": ""}, {}, {"a": 1}, "%float", itertools.count)
        if not callable(x)
    )
