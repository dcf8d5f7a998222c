"""Objects whose fields have other types than they should: an error at the call, and nothing is logged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import trialstream as ts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Field of a trial → values that it cannot have.
ADDRESSES = {
    "hash": [{"$ne": ""}, 5, None, b"x", ["x"], "\0", "x" * 5000, "\ud800"],
    "revision": ["0", True, None, -1, 2**63, 10**5000, 0.5, {"$gt": 0}],
    "request": [{"$ne": None}, 7, ["x"], b"x", "\0", "x" * 5000],
}
DEFINITIONS = {
    "name": [5, "", None, {"$ne": 1}],
    "version": [{"$ne": 1}, float("nan")],
    "parameters": ["x", None, {"a": object()}, {1: 2}],
    "project_id": [5, {"$ne": 1}],
    "group_id": [5, {"$ne": 1}],
    "description": [5, {}],
    "metadata": ["x", {"a": object()}],
    "tags": [3, {"a": object()}],
    "status": ["Running", 5],
    "created": ["now", 5],
}
CALLS = {
    "log_trial_start": lambda protocol, trial: protocol.log_trial_start(trial),
    "log_trial_finish": lambda protocol, trial: protocol.log_trial_finish(trial),
    "log_trial_metrics": lambda protocol, trial: protocol.log_trial_metrics(trial, step=1, loss=0.5),
    "log_trial_arguments": lambda protocol, trial: protocol.log_trial_arguments(trial, lr=0.1),
    "log_trial_metadata": lambda protocol, trial: protocol.log_trial_metadata(trial, x=1),
    "add_trial_tags": lambda protocol, trial: protocol.add_trial_tags(trial, x=1),
    "set_trial_status": lambda protocol, trial: protocol.set_trial_status(trial, ts.Status.Running),
    "log_trial_chrono_start": lambda protocol, trial: protocol.log_trial_chrono_start(trial, "c"),
    "log_trial_chrono_finish": lambda protocol, trial: protocol.log_trial_chrono_finish(trial, "c"),
    "add_group_trial": lambda protocol, trial: protocol.add_group_trial(ts.TrialGroup(name="objects"), trial),
    "add_project_trial": lambda protocol, trial: protocol.add_project_trial(ts.Project(name="objects"), trial),
    "fetch_metrics": lambda protocol, trial: protocol.fetch_metrics(trial),
    "fetch_histories": lambda protocol, trial: protocol.fetch_histories([trial]),
    "fetch_bands": lambda protocol, trial: protocol.fetch_bands([trial], "loss"),
}
ADDRESS_CALLS = CALLS | {
    "get_trial": lambda protocol, trial: protocol.get_trial(trial),
    "new_trial": lambda protocol, trial: protocol.new_trial(trial),
}


@pytest.fixture
async def known(protocol):
    """A trial, and the project and the group that the calls use."""
    await protocol.new_project(ts.Project(name="objects"))
    await protocol.new_trial_group(ts.TrialGroup(name="objects"))
    return await protocol.new_trial(ts.Trial(name="objects"), auto_increment=True)


async def _refused(call, protocol, given, path):
    """Check that a call is refused with a message that names the field, and logs nothing."""
    before = protocol.statistics().queued
    with pytest.raises((ts.InvalidType, ts.InvalidValue), match=path):
        await call(protocol, given)
    assert protocol.statistics().queued == before


def changed(given, field, value):
    """Return a copy with a field that the constructor would refuse."""
    copy = replace(given)
    setattr(copy, field, value)
    return copy


@pytest.mark.parametrize("method", ADDRESS_CALLS)
async def test_a_wrong_part_of_an_address_is_named(protocol, known, method):
    """One trial with `request={…}` stopped the sending of a protocol: its call is refused, and the next one works."""
    for field, values in ADDRESSES.items():
        for value in values:
            await _refused(ADDRESS_CALLS[method], protocol, changed(known, field, value), f"Trial.{field}")
    await protocol.log_trial_metrics(known, step=1, loss=0.5)
    await protocol.commit("folded")


@pytest.mark.parametrize("method", CALLS)
async def test_a_wrong_definition_of_an_undecided_trial_is_named(protocol, known, method):
    """The creation of a trial with a request is sent again, so its whole definition is checked."""
    undecided = replace(known, request="ab" * 12, created=NOW, metadata={})
    for field, values in DEFINITIONS.items():
        for value in values:
            await _refused(CALLS[method], protocol, changed(undecided, field, value), f"Trial.{field}")


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, all_ in ADDRESSES.items() for value in all_[:4]]
)
def test_a_constructor_names_the_field(field, value):
    """An address is checked when an object is made, too."""
    with pytest.raises((ts.InvalidType, ts.InvalidValue), match=f"Trial.{field}"):
        ts.Trial(**{"name": "t", field: value})


async def test_wrong_groups_and_projects_are_named(protocol, known):
    """Their names are their addresses."""
    group, project = ts.TrialGroup(name="objects"), ts.Project(name="objects")
    for value in (5, None, "", {"$ne": 1}, "\0", "x" * 5000):
        wrong = changed(project, "name", value)
        for call in (
            lambda protocol, given: protocol.get_project(given),
            lambda protocol, given: protocol.new_project(given),
            lambda protocol, given: protocol.add_project_trial(given, known),
        ):
            await _refused(call, protocol, wrong, r"Project\.name")
        for field in ("name", "project_id"):
            if field == "project_id" and value in (None, ""):
                continue
            wrong = changed(group, field, value)
            for call in (
                lambda protocol, given: protocol.get_trial_group(given),
                lambda protocol, given: protocol.new_trial_group(given),
                lambda protocol, given: protocol.add_group_trial(given, known),
                lambda protocol, given: protocol.set_group_metadata(given, a=1),
            ):
                await _refused(call, protocol, wrong, rf"TrialGroup\.{field}")


@pytest.mark.parametrize("given", [None, "uid", 5, {"uid": "x"}, ts.Project(name="p")], ids=lambda x: type(x).__name__)
async def test_other_objects_are_named(protocol, given):
    """A uid, a dict or an object of another class is no trial."""
    for call in CALLS.values():
        await _refused(call, protocol, given, r"trials?(\[0\])?: expected")
