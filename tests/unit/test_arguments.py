"""Arguments of log calls that take values by name, as keywords and in a mapping."""

from __future__ import annotations

import asyncio
import inspect
from types import MappingProxyType

import pytest
import trialstream as ts
from trialstream.arguments import MAPPING_ADVICE, arguments_of, checked_aggregator, row_arguments, takes_mapping
from trialstream.kafka import commands
from trialstream.sync import SyncProtocol
from trialstream_schemas.errors import InvalidType, InvalidValue, QueryError
from trialstream_schemas.model.aggregators import RingAggregator, timeseries_aggregator, value_aggregator

RING = RingAggregator.lazy(2)
UID = "0123456789abcdef0123456789abcdef_0"
# Names of parameters, of this module's functions too.
NAMES = ["trial", "group", "step", "aggregator", "self", "args", "kwargs", "values", "writer", "uid", "method", "path"]
UPDATES = [commands.log_trial_arguments, commands.log_trial_metadata, commands.add_trial_tags]
UPDATES += [commands.set_group_metadata]


class Methods:
    """Methods that return what they were called with."""

    @takes_mapping
    def values(self, /, trial, *values, **kwargs):
        """Return the arguments."""
        if kwargs.get("fail"):
            raise InvalidType("values.a: got multiple values")
        return trial, values, kwargs

    @takes_mapping
    async def values_async(self, /, trial, *values, **kwargs):
        """Return the arguments."""
        return Methods.values(self, trial, *values, **kwargs)


def call(name, *args, **kwargs):
    """Call a method by its name."""
    found = getattr(Methods(), name)(*args, **kwargs)
    return asyncio.run(found) if inspect.iscoroutine(found) else found


# --- Rows


@pytest.mark.parametrize(
    ("args", "keywords", "wanted"),
    [
        pytest.param((5,), {"loss": 1}, (5, None, {"loss": 1}), id="a positional step"),
        pytest.param((None,), {"loss": 1}, (None, None, {"loss": 1}), id="a positional None"),
        pytest.param(("a", RING), {"loss": 1}, ("a", RING, {"loss": 1}), id="step and aggregator"),
        pytest.param((5,), {"aggregator": RING, "loss": 1}, (5, RING, {"loss": 1}), id="aggregator as a keyword"),
        pytest.param(({"step": 1},), {"step": 3}, (3, None, {"step": 1}), id="a metric that is named step"),
        pytest.param(({"a": 1}, 3, RING), {"b": 2}, (3, RING, {"a": 1, "b": 2}), id="all behind the mapping"),
        pytest.param(({"a": 1}, 3), {"aggregator": RING}, (3, RING, {"a": 1}), id="step behind the mapping"),
        pytest.param((MappingProxyType({"a": 1}),), {}, (None, None, {"a": 1}), id="any mapping"),
        pytest.param(({},), {"loss": 1}, (None, None, {"loss": 1}), id="an empty mapping"),
    ],
)
def test_the_arguments_of_a_row(args, keywords, wanted):
    """A mapping behind the trial has the values; other positional arguments are step and aggregator, as ever."""
    step, aggregator = keywords.pop("step", None), keywords.pop("aggregator", None)

    assert row_arguments(args, step, aggregator, keywords) == wanted


@pytest.mark.parametrize(
    ("args", "keywords", "error", "reason"),
    [
        pytest.param((5,), {"step": 6}, InvalidType, "multiple values for argument 'step': pass", id="two steps"),
        pytest.param((5, RING), {"aggregator": RING}, InvalidType, "values for argument 'aggregator'", id="two specs"),
        pytest.param(({}, 5), {"step": 6}, InvalidType, "values for argument 'step'", id="two steps behind a mapping"),
        pytest.param((5, RING, 1), {}, InvalidType, "got 1 positional arguments too many", id="too many"),
        pytest.param(({"a": 1},), {"a": 1}, InvalidValue, r"^metrics\.a: expected one value", id="a name twice"),
    ],
)
def test_wrong_arguments_of_a_row(args, keywords, error, reason):
    """A parameter or a name that is given twice is an error that names it."""
    step, aggregator = keywords.pop("step", None), keywords.pop("aggregator", None)

    with pytest.raises(error, match=reason):
        row_arguments(args, step, aggregator, keywords)


def test_a_mapping_is_copied():
    """A mapping that the user changes later does not change the values."""
    mapping = {"a": 1}

    (values,) = arguments_of("m", "values", (mapping,), {})
    mapping["b"] = 2

    assert values == {"a": 1}


# --- Methods


@pytest.mark.parametrize("name", ["values", "values_async"])
def test_a_method_explains_a_clash(name):
    """A keyword that is a parameter is a TypeError that advises a dict; the method's own errors stay as they are."""
    assert call(name, 1, {"trial": 2}, self=3) == (1, ({"trial": 2},), {"self": 3})

    with pytest.raises(TypeError, match=rf"multiple values for argument 'trial': {MAPPING_ADVICE}$"):
        call(name, 1, trial=2)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'trial'$"):
        call(name)
    with pytest.raises(InvalidType, match=r"^values.a: got multiple values$"):
        call(name, 1, fail=True)


@pytest.mark.parametrize("owner", [ts.Protocol, ts.KafkaProtocol, SyncProtocol], ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("log_trial_arguments", ["self", "trial", "kwargs"]),
        ("log_trial_metadata", ["self", "trial", "aggregator", "kwargs"]),
        ("log_trial_metrics", ["self", "trial", "step", "aggregator", "kwargs"]),
        ("add_trial_tags", ["self", "trial", "kwargs"]),
        ("set_group_metadata", ["self", "group", "kwargs"]),
    ],
)
def test_a_method_shows_the_parameters_that_scripts_use(owner, name, shown):
    """The shown signature has the parameters that can be passed by position or keyword, and no `*args`."""
    method = getattr(owner, name)

    assert list(inspect.signature(method).parameters) == shown
    assert inspect.iscoroutinefunction(method) == (owner is not SyncProtocol)


# --- Updates


@pytest.mark.parametrize("update", UPDATES, ids=lambda each: each.__name__)
def test_values_of_any_name(update):
    """An update takes values of any name in a mapping, and merges them with the keywords."""
    given = {name: i for i, name in enumerate([*NAMES, "", "a.b", "ключ"])}

    assert update("w", UID, given).values == given
    assert update("w", UID, given, more=1).values == {**given, "more": 1}
    assert update("w", UID, {}, more=1).values == update("w", UID, more=1).values


@pytest.mark.parametrize("update", UPDATES, ids=lambda each: each.__name__)
def test_a_wrong_mapping_is_refused(update):
    """A name in the mapping and as a keyword, a name that is no text, and an object that is no mapping are errors."""
    with pytest.raises(InvalidValue, match=r"^\w+\.a: expected one value, got one in the dict and one as a keyword$"):
        update("w", UID, {"a": 1}, a=1)
    with pytest.raises(InvalidType, match=r"key: expected a str, got int$"):
        update("w", UID, {1: 1})
    with pytest.raises(InvalidType):
        update("w", UID, [("a", 1)])
    with pytest.raises(InvalidType):
        update("w", UID, {"a": 1}, {"b": 2})


def test_the_aggregator_of_metadata():
    """The aggregator of metadata is positional or a keyword, with a mapping before it or not."""
    wanted = commands.log_trial_metadata("w", UID, RING, a=1)
    for args, keywords in [
        ((), {"aggregator": RING, "a": 1}),
        (({"a": 1}, RING), {}),
        (({"a": 1},), {"aggregator": RING}),
    ]:
        found = commands.log_trial_metadata("w", UID, *args, **keywords)
        assert (found.values, found.aggregator) == (wanted.values, wanted.aggregator)

    with pytest.raises(InvalidType, match=rf"^aggregator: expected .* got str: {MAPPING_ADVICE}$"):
        commands.log_trial_metadata("w", UID, aggregator="adam")
    with pytest.raises(InvalidType, match="multiple values for argument 'aggregator'"):
        commands.log_trial_metadata("w", UID, RING, aggregator=RING)


def test_the_default_of_an_aggregator():
    """An aggregator of None is the default."""
    for default in (value_aggregator, timeseries_aggregator):
        assert checked_aggregator(None, default) is default
    assert checked_aggregator(RING, value_aggregator) is RING


def test_the_mapping_of_a_claim():
    """A claim takes the mapping of its update, so that its values may have the names of the claim's parameters."""
    given = {"query": 1, "attr": 2, "trial": 3}
    claim = commands.claim_update

    assert claim(commands.TRIAL_UPDATES, "add_trial_tags", "w", (given,), {"a": 4}).values == {**given, "a": 4}
    assert claim(commands.TRIAL_UPDATES, "log_trial_metadata", "w", (given, RING), {}).aggregator == RING
    assert claim(commands.TRIAL_UPDATES, "log_trial_metadata", "w", (RING,), {"a": 1}).values == {"a": 1}
    assert claim(commands.GROUP_UPDATES, "set_group_metadata", "w", (given,), {}).values == given
    with pytest.raises(TypeError, match=rf"^add_trial_tags: multiple values for argument 'trial': {MAPPING_ADVICE}$"):
        claim(commands.TRIAL_UPDATES, "add_trial_tags", "w", (), {"trial": 1})
    with pytest.raises(TypeError, match=r"^log_trial_start: too many positional arguments$"):
        claim(commands.TRIAL_UPDATES, "log_trial_start", "w", ({},), {})
    with pytest.raises(QueryError, match="attr"):
        claim(commands.TRIAL_UPDATES, "log_trial_metrics", "w", (given,), {})
