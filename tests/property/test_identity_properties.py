"""Identity: values have the same hash exactly if they are the same value."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from strategies import DICTS, NAMES, VALUES
from trialstream_schemas.model.identity import canonical, digest
from trialstream_schemas.model.trial import Trial


def tagged(x):
    """Return the value with its types and without the order of keys: equal exactly if the values are the same."""
    if isinstance(x, float):
        return ("float", "nan") if math.isnan(x) else ("float", x, math.copysign(1, x))
    if isinstance(x, list):
        return ("list", tuple(map(tagged, x)))
    if isinstance(x, dict):
        return ("dict", frozenset((key, tagged(each)) for key, each in x.items()))
    return (type(x).__name__, x)


def shuffled(x, random):
    """Return the same value with the keys of all its dicts in another order."""
    if isinstance(x, list):
        return [shuffled(each, random) for each in x]
    if isinstance(x, dict):
        items = [(key, shuffled(each, random)) for key, each in x.items()]
        random.shuffle(items)
        return dict(items)
    return x


SMALL = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, math.nan, "", "0", "1", "a", b"", b"a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["", "a", "b"]), inner, max_size=2),
    max_leaves=4,
)


@given(SMALL, SMALL)
def test_hashes_are_equal_exactly_if_values_are(one, other):
    """Values have the same hash exactly if they are the same; drawn from few, so that they often are."""
    same = tagged(one) == tagged(other)

    assert (canonical(one) == canonical(other)) == same
    assert (digest(one) == digest(other)) == same


@given(VALUES, VALUES)
def test_hashes_of_any_values_are_equal_exactly_if_the_values_are(one, other):
    """Values of any kind have the same hash exactly if they are the same."""
    assert (digest(one) == digest(other)) == (tagged(one) == tagged(other))


@given(DICTS, st.randoms(use_true_random=False))
def test_order_of_keys_does_not_matter(parameters, random):
    """The order of parameters, at every level, does not change a trial."""
    one = Trial(name="t", parameters=parameters)
    other = Trial(name="t", parameters=shuffled(parameters, random))

    assert one.uid == other.uid


@given(DICTS, NAMES, VALUES)
def test_every_parameter_counts(parameters, key, x):
    """A parameter added or changed makes another trial."""
    changed = {**parameters, key: x}
    same = tagged(changed) == tagged(parameters)

    assert (Trial(name="t", parameters=changed).hash == Trial(name="t", parameters=parameters).hash) == same


@given(st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
def test_no_value_runs_into_the_next(ones, others):
    """The canonical bytes have no ambiguous ends: different lists never have the same concatenation."""
    same = tagged(ones) == tagged(others)

    assert (b"".join(map(canonical, ones)) == b"".join(map(canonical, others))) == same
