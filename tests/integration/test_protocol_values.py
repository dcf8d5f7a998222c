"""Values: everything that can be logged comes back unchanged, and everything else is refused at the call."""

from __future__ import annotations

import copy
import reprlib

import pytest
import trialstream as ts
from contract import KEYS, REFUSED, VALUES, again, exactly

# Methods that take values by key, and the field of the trial that shows them.
SECTIONS = {"log_trial_arguments": "parameters", "log_trial_metadata": "metadata", "add_trial_tags": "tags"}


@pytest.mark.parametrize(("given", "wanted"), VALUES.values(), ids=VALUES)
async def test_a_value_comes_back_unchanged(protocol, trial, given, wanted):
    """Arguments, metadata and tags return a value unchanged, with its type."""
    for method in SECTIONS:
        await getattr(protocol, method)(trial, x=given)
    found = await again(protocol, trial)

    for section in SECTIONS.values():
        assert exactly(getattr(found, section)) == exactly({"x": wanted})


@pytest.mark.parametrize(("given", "wanted"), VALUES.values(), ids=VALUES)
async def test_a_value_is_kept_by_the_aggregators_of_any_value(protocol, trial, given, wanted):
    """The aggregators Value and Ring keep a value with its type."""
    if isinstance(given, str) and len(given) > 100_000:
        given = wanted = given[:100_000]
    await protocol.log_trial_metadata(trial, ts.RingAggregator.lazy(2), ring=given)
    await protocol.log_trial_metadata(trial, ts.ValueAggregator.lazy(), value=given)
    found = await again(protocol, trial)

    assert exactly(found.metadata["ring"].values) == exactly([wanted])
    assert exactly(found.metadata["value"]) == exactly(wanted)


@pytest.mark.parametrize("key", KEYS, ids=ascii)
async def test_a_key_comes_back_unchanged(protocol, name, key):
    """A key comes back unchanged, at the top level and inside of values."""
    given = {key: {key: [{key: 1}]}}
    trial = await protocol.new_trial(ts.Trial(name=name, parameters={"p": given}, metadata=given, tags=given))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, metadata=given, tags=given))
    project = await protocol.new_project(ts.Project(name=name, metadata=given, tags=given))
    await protocol.log_trial_arguments(trial, **given)
    await protocol.log_trial_metadata(
        trial, ts.RingAggregator.lazy(1), **{key + "m" if len(key) < 1024 else "m": given}
    )
    await protocol.log_trial_metrics(trial, **{key: 1})
    await protocol.log_trial_chrono_start(trial, key, ts.StatAggregator.lazy(0))
    await protocol.log_trial_chrono_finish(trial, key)
    await protocol.set_group_metadata(group, **{key: given})
    found = await again(protocol, trial)
    history = await protocol.fetch_metrics(trial, key)
    [by_key] = await protocol.fetch_trials({"uid": trial.uid, ts.path("metrics", key, "last"): 1})
    [group_found] = await protocol.fetch_groups({"uid": group.uid})

    assert found.parameters == {"p": given, **given}
    assert found.metadata[key] == given[key]
    assert found.tags == given
    assert found.metrics[key].last == 1.0
    assert found.chronos[key].count == 1
    assert history[key].values.tolist() == [1.0]
    assert by_key.uid == trial.uid
    assert (group_found.metadata, group_found.tags) == ({key: given}, given)
    assert (project.metadata, project.tags) == (given, given)


async def test_values_named_like_parameters(protocol, name, trial):
    """Values of any name can be passed in a mapping behind the trial or group, together with keywords."""
    given = {each: i for i, each in enumerate(["trial", "group", "step", "aggregator", "self", "args", "values"])}
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    for method in SECTIONS:
        await getattr(protocol, method)(trial, given, more=True)
    await protocol.log_trial_metrics(trial, given, step=3, more=1)
    await protocol.log_trial_metrics(trial, given, 4)
    await protocol.log_trial_metrics(trial, 5, more=2)
    await protocol.set_group_metadata(group, given, more=True)
    claimed = await protocol.fetch_and_update_trial({"uid": trial.uid}, "add_trial_tags", {"attr": 1, "query": 2})
    found = await again(protocol, trial)
    history = await protocol.fetch_metrics(trial, "step", "more")
    [group_found] = await protocol.fetch_groups({"uid": group.uid})

    assert found.parameters == found.metadata == {**given, "more": True}
    assert found.tags == claimed.tags == {**given, "more": True, "attr": 1, "query": 2}
    assert history["step"].steps.tolist() == [3, 4]
    assert history["step"].values.tolist() == [2.0, 2.0]
    assert history["more"].steps.tolist() == [3, 5]
    assert group_found.metadata == {**given, "more": True}


async def test_a_name_that_is_passed_twice(protocol, trial):
    """A name in the mapping and as a keyword, and a keyword that is a parameter, are refused; nothing is logged."""
    for method in (*SECTIONS, "log_trial_metrics"):
        with pytest.raises(ts.InvalidValue, match=r"\.a: expected one value"):
            await getattr(protocol, method)(trial, {"a": 1}, a=1)
        with pytest.raises(TypeError, match="multiple values for argument 'trial'"):
            await getattr(protocol, method)(trial, trial=1)
    with pytest.raises(
        ts.InvalidType, match=r"^step: expected .* got builtins\.list; to log a value of that name, pass"
    ):
        await protocol.log_trial_metrics(trial, step=[0.5], loss=1.0)

    assert await again(protocol, trial) == trial


async def test_all_keys_at_once(protocol, trial):
    """Keys that look alike stay distinct when they are logged together."""
    given = {key: i for i, key in enumerate(KEYS)}
    for method in SECTIONS:
        await getattr(protocol, method)(trial, **given)
    await protocol.log_trial_metrics(trial, **given)
    found = await again(protocol, trial)

    for section in SECTIONS.values():
        assert list(getattr(found, section).items()) == list(given.items())
    assert {key: each.last for key, each in found.metrics.items()} == given
    assert found.lost_events == 0


@pytest.mark.parametrize(("key", "value", "error"), REFUSED.values(), ids=REFUSED)
async def test_an_invalid_value_is_refused_at_the_call(protocol, trial, key, value, error):
    """The error names the key; nothing of the call is logged, nothing is lost, and the next call works."""
    for method in SECTIONS:
        with pytest.raises(error) as caught:
            await getattr(protocol, method)(trial, before=1, **{key: value}, after=1)
        assert names(caught.value, key)
        await getattr(protocol, method)(trial, good=2)
    found = await again(protocol, trial)

    for section in SECTIONS.values():
        assert getattr(found, section) == {"good": 2}
    assert found.lost_events == 0
    assert protocol.statistics().dropped == 0


@pytest.mark.parametrize(("key", "value", "error"), REFUSED.values(), ids=REFUSED)
async def test_an_invalid_value_is_refused_in_definitions(protocol, name, key, value, error):
    """Trials, groups and projects with invalid values cannot be created, nor a group's metadata be set to them."""
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    given = {"before": 1, key: value}
    for make in (
        lambda: ts.Trial(name=name, parameters=given),
        lambda: ts.Trial(name=name, metadata=given),
        lambda: ts.Trial(name=name, tags=given),
        lambda: ts.TrialGroup(name=name, metadata=given),
        lambda: ts.Project(name=name, tags=given),
    ):
        with pytest.raises(error) as caught:
            make()
        assert names(caught.value, key)
    with pytest.raises(error):
        await protocol.set_group_metadata(group, **given)
    [found] = await protocol.fetch_groups({"uid": group.uid})

    assert (found.metadata, found.lost_events) == ({}, 0)


async def test_a_definition_that_became_invalid(protocol, name):
    """A definition that was made invalid after its construction is refused at the call."""
    trial, group, project = ts.Trial(name=name), ts.TrialGroup(name=name), ts.Project(name=name)
    for each in (trial, group, project):
        each.tags["bad"] = object()

    for call, given in (
        (protocol.new_trial, trial),
        (protocol.new_trial_group, group),
        (protocol.new_project, project),
    ):
        with pytest.raises(ts.InvalidType, match="bad"):
            await call(given)


async def test_values_that_exceed_one_event(protocol, trial):
    """Values that exceed an event only together are refused together, and can be logged in several calls."""
    given = {f"k{i}": "x" * 400_000 for i in range(3)}
    with pytest.raises(ts.InvalidValue, match="spread the values over several"):
        await protocol.log_trial_arguments(trial, **given)
    for key, value in given.items():
        await protocol.log_trial_arguments(trial, **{key: value})
    found = await again(protocol, trial)

    assert found.parameters == given
    assert found.lost_events == 0


async def test_a_definition_that_exceeds_one_event(protocol, name):
    """A definition that exceeds one event is refused at the call."""
    parameters = {f"k{i}": "x" * 400_000 for i in range(3)}

    with pytest.raises(ts.InvalidValue, match="at most"):
        await protocol.new_trial(ts.Trial(name=name, parameters=parameters))


async def test_the_given_objects_stay_as_they_are(protocol, name):
    """No call changes a project, a group, a trial or a value that it was given."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=project.uid))
    trial = await protocol.new_trial(ts.Trial(name=name, parameters={"a": [1]}))
    value = {"a": (1, bytearray(b"b"))}
    given = (project, group, trial, value)
    before = copy.deepcopy(given)

    await protocol.add_project_trial(project, trial)
    await protocol.add_group_trial(group, trial)
    await protocol.set_group_metadata(group, x=value)
    await protocol.log_trial_start(trial)
    await protocol.log_trial_arguments(trial, x=value)
    await protocol.log_trial_metadata(trial, x=value)
    await protocol.add_trial_tags(trial, x=value)
    await protocol.log_trial_metrics(trial, loss=1)
    await protocol.log_trial_chrono_start(trial, "step")
    await protocol.log_trial_chrono_finish(trial, "step")
    await protocol.set_trial_status(trial, ts.Status.Broken, "why")
    await protocol.log_trial_finish(trial)
    await protocol.new_trial(trial, auto_increment=True)
    await protocol.new_trial_group(group)
    await protocol.new_project(project)
    await protocol.fetch_and_update_trial({"uid": trial.uid}, "add_trial_tags", x=value)
    await protocol.commit("folded")

    assert given == before


def names(error: Exception, key: str) -> bool:
    """Return whether the message names the key, as it is or as its shortened repr."""
    return key in str(error) or reprlib.repr(key) in str(error)
