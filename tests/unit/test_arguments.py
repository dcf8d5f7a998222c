"""Values whose names are parameters: a mapping of values behind the trial or group."""

from __future__ import annotations

from types import MappingProxyType

import pytest
import trialstream as ts
from trialstream.arguments import MAPPING_ADVICE, resolve
from trialstream.kafka import commands
from trialstream.kafka.rows import RowChecks
from trialstream_schemas.errors import InvalidType, InvalidValue

RING = ts.RingAggregator.lazy(3)
UID = "0123456789abcdef0123456789abcdef_0"
ODD = {"trial": 1, "step": 2, "aggregator": 3, "self": 4, "group": 5, "writer": 6, "uid": 7, "path": 8, "values": 9}
ROWS = RowChecks(lambda _: None)
UPDATES = {**ROWS.updates, **commands.GROUP_UPDATES}
VALUE_UPDATES = ["log_trial_arguments", "log_trial_metadata", "add_trial_tags", "set_group_metadata"]


@pytest.mark.parametrize(
    ("args", "keywords", "wanted"),
    [
        pytest.param((5,), {}, (5, None, {}), id="a positional step"),
        pytest.param((None,), {}, (None, None, {}), id="a positional None"),
        pytest.param(("a", RING), {"loss": 1}, ("a", RING, {"loss": 1}), id="step and aggregator"),
        pytest.param((5,), {"aggregator": RING}, (5, RING, {}), id="an aggregator as a keyword"),
        pytest.param(({"step": 1},), {"step": 3}, (3, None, {"step": 1}), id="a metric that is named step"),
        pytest.param(({"a": 1}, 3, RING), {"b": 2}, (3, RING, {"a": 1, "b": 2}), id="all behind the mapping"),
        pytest.param(({"a": 1}, 3), {"aggregator": RING}, (3, RING, {"a": 1}), id="a step behind the mapping"),
        pytest.param((MappingProxyType({"a": 1}),), {}, (None, None, {"a": 1}), id="any mapping"),
        pytest.param(({},), {"loss": 1}, (None, None, {"loss": 1}), id="an empty mapping"),
    ],
)
def test_positional_arguments(args, keywords, wanted):
    """A mapping behind the trial has values; the other positional arguments are the parameters, in their order."""
    step, aggregator = keywords.pop("step", None), keywords.pop("aggregator", None)
    values, *parameters = resolve("metrics", args, keywords, step=step, aggregator=aggregator)

    assert (*parameters, values) == wanted


@pytest.mark.parametrize(
    ("args", "keywords", "error", "reason"),
    [
        pytest.param((5,), {"step": 6}, InvalidType, rf"^step: expected one .*; {MAPPING_ADVICE}$", id="two steps"),
        pytest.param((5, RING), {"aggregator": RING}, InvalidType, "^aggregator: expected one", id="two aggregators"),
        pytest.param((None,), {"step": 6}, InvalidType, "^step: expected one", id="None and a step"),
        pytest.param(({}, 5), {"step": 6}, InvalidType, "^step: expected one", id="two steps behind a mapping"),
        pytest.param(
            *((5, RING, "x"), {}, InvalidType),
            "^metrics: expected a mapping of values and step and aggregator behind the trial or group, got str$",
            id="too many",
        ),
        pytest.param(
            *(({"a": 1},), {"a": 1}, InvalidValue),
            r"^metrics\.a: expected one value, got one in the mapping and one as a keyword$",
            id="a name twice",
        ),
    ],
)
def test_wrong_positional_arguments(args, keywords, error, reason):
    """A parameter or a value that is passed twice is an error that names it."""
    given = {"step": keywords.pop("step", None), "aggregator": keywords.pop("aggregator", None)}

    with pytest.raises(error, match=reason):
        resolve("metrics", args, keywords, **given)


def test_a_mapping_is_copied():
    """A mapping that the user changes later does not change the values, and the call changes neither."""
    mapping, keywords = {"a": 1}, {"b": 2}
    (values,) = resolve("tags", (mapping,), keywords)
    values["c"] = 3

    assert (mapping, keywords) == ({"a": 1}, {"b": 2})


# --- Updates


@pytest.mark.parametrize("name", VALUE_UPDATES)
def test_values_of_any_name(name):
    """An update takes values of any name in a mapping, and merges them with the keywords."""
    update = UPDATES[name]

    assert update("w", UID, {**ODD, "a.b": 0, "": 1}).values == {**ODD, "a.b": 0, "": 1}
    assert update("w", UID, ODD, more=1).values == {**ODD, "more": 1}
    assert update("w", UID, {}, more=1).values == update("w", UID, more=1).values == {"more": 1}


@pytest.mark.parametrize("name", VALUE_UPDATES)
def test_a_wrong_mapping_is_refused(name):
    """A name in both, a key that is no text, an object that is no mapping, and two mappings are errors."""
    update = UPDATES[name]

    with pytest.raises(InvalidValue, match=r"^\w+\.a: expected one value"):
        update("w", UID, {"a": 1}, a=1)
    with pytest.raises(InvalidType, match=r"key: expected a str, got int$"):
        update("w", UID, {1: 1})
    for wrong in ([("a", 1)], "a", 1):
        with pytest.raises(InvalidType):
            update("w", UID, wrong)
    with pytest.raises(InvalidType, match=r"got dict|aggregator: expected .* got dict"):
        update("w", UID, {"a": 1}, {"b": 2})


def test_metrics_of_any_name():
    """A row takes numbers of any name in a mapping, beside its step and aggregator."""
    event = ROWS.log_trial_metrics("w", UID, ODD, "one", RING, loss=0.5)

    assert dict(zip(event.names, [x for (x,) in event.columns], strict=True)) == {**ODD, "loss": 0.5}
    assert (event.aggregator, event.text_steps) == (RING, ("one",))


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        pytest.param({"step": [0.1]}, r"^step: expected .* got builtins\.list", id="a step"),
        pytest.param(
            {"step": float("nan")}, r"^step: expected a finite number, got nan", id="a step that is not finite"
        ),
        pytest.param({"aggregator": "adam"}, r"^aggregator: expected .* got str", id="an aggregator"),
    ],
)
def test_the_error_about_a_parameter_advises_the_mapping(keywords, reason):
    """A keyword with a value that its parameter cannot have was meant as a value: the message says how to pass it."""
    with pytest.raises((InvalidType, InvalidValue), match=rf"{reason}; {MAPPING_ADVICE}$"):
        ROWS.log_trial_metrics("w", UID, **keywords)


def test_the_aggregator_of_metadata():
    """The aggregator of metadata is positional or a keyword, behind a mapping or without one; None is the default."""
    wanted = ROWS.log_trial_metadata("w", UID, aggregator=RING, a=1)
    for args, keywords in [((RING,), {"a": 1}), (({"a": 1}, RING), {}), (({"a": 1},), {"aggregator": RING})]:
        found = ROWS.log_trial_metadata("w", UID, *args, **keywords)
        assert (found.values, found.aggregator) == (wanted.values, wanted.aggregator)
    for default in (None, ts.value_aggregator):
        assert ROWS.log_trial_metadata("w", UID, default, a=1).aggregator == ts.value_aggregator
        assert ROWS.log_trial_metadata("w", UID, aggregator=default, a=1).aggregator == ts.value_aggregator

    with pytest.raises(InvalidType, match=rf"^aggregator: expected .* got str; {MAPPING_ADVICE}$"):
        ROWS.log_trial_metadata("w", UID, aggregator="adam")
    with pytest.raises(InvalidType, match=r"^aggregator: expected one argument"):
        ROWS.log_trial_metadata("w", UID, RING, aggregator=RING)


def test_an_integer_in_a_mapping_that_loses_digits():
    """An integer that loses digits as a double is warned of by name, in a mapping too."""
    warnings = []
    rows = RowChecks(warnings.append)
    rows.log_trial_metadata("w", UID, {"step": 2**53 + 1}, ts.timeseries_aggregator)
    rows.log_trial_metrics("w", UID, {"trial": 2**53 + 1})

    assert [each.split(":")[1] for each in warnings] == [" metadata.step", " metric 'trial'"]
