"""The names that users' scripts rely on."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import trialstream as ts
from contract import METHODS, arguments_of


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("protocol", [ts.Protocol, ts.KafkaProtocol], ids=["Protocol", "KafkaProtocol"])
def test_every_method_has_the_parameters_of_the_contract(protocol, name):
    """Parameters have the names, kinds and defaults of the contract; additional ones are keyword-only and optional."""
    wanted = inspect.signature(eval(f"lambda {METHODS[name]}: 0", vars(ts))).parameters
    found = dict(list(inspect.signature(getattr(protocol, name)).parameters.items())[1:])  # without self

    shared = [each for key, each in found.items() if key in wanted or each.kind is each.VAR_KEYWORD]
    assert [(_name(each), each.kind, each.default) for each in shared] == [
        (_name(each), each.kind, each.default) for each in wanted.values()
    ]
    more = [each for key, each in found.items() if key not in wanted and each.kind is not each.VAR_KEYWORD]
    assert all(each.kind is each.KEYWORD_ONLY and each.default is not each.empty for each in more)


def _name(parameter):
    return "**" if parameter.kind is parameter.VAR_KEYWORD else parameter.name


async def test_every_method_takes_its_parameters_by_keyword(protocol, name):
    """A whole run works with keyword arguments only."""
    project, group = ts.Project(name=name), ts.TrialGroup(name=name)
    calls = arguments_of(project, group, ts.Trial(name=name))
    answers = {method: await getattr(protocol, method)(**arguments) for method, arguments in calls.items()}

    assert calls.keys() == METHODS.keys()
    [trial] = answers["fetch_trials"]
    assert trial.uid == answers["new_trial"].uid
    assert (trial.project_id, trial.group_id) == (project.uid, group.uid)
    assert trial.parameters == {"lr": 0.1}
    assert trial.metadata["note"].values == ["a"]
    assert trial.tags == {"good": True, "claimed": True}
    assert trial.status is ts.Status.Completed
    assert trial.lost_events == 0
    assert answers["fetch_groups"][0].metadata == {"space": "grid", "claimed": True}
    assert answers["fetch_projects"][0].trials == [trial.uid]
    assert list(answers["fetch_metrics"]) == ["loss"]


def test_all_names_that_users_need_are_exported():
    """`import trialstream` gives access to all names that users need."""
    needed = {
        *("connect", "Protocol", "KafkaProtocol", "Config"),
        *("Project", "TrialGroup", "Trial", "Status", "CustomStatus"),
        *("Aggregator", "AggregatorSpec", "value_aggregator", "timeseries_aggregator"),
        *("ValueAggregator", "StatAggregator", "RingAggregator", "TimeSeriesAggregator"),
        *("TrialStreamError", "ItemNotFound", "QueryError", "ChronoError", "ProtocolClosed", "ConfigError"),
        *("InvalidType", "InvalidValue", "KafkaUnavailable", "MongoUnavailable", "CommitTimeout", "ProjectionBehind"),
    }

    assert needed <= set(ts.__all__)
    assert all(hasattr(ts, name) for name in ts.__all__)


def test_all_errors_share_one_root():
    """`except ts.TrialStreamError` catches every exception of trialstream."""
    errors = [each for each in vars(ts).values() if isinstance(each, type) and issubclass(each, Exception)]

    assert len(errors) > 10
    assert all(issubclass(each, ts.TrialStreamError) for each in errors)


@pytest.mark.usefixtures("environment")
async def test_a_typical_script():
    """A typical script works, and every field that it reads has its value."""
    async with ts.connect() as protocol:
        project = await protocol.new_project(ts.Project(name="handwriting"))
        group = await protocol.new_trial_group(ts.TrialGroup(name="search", project_id=project.uid))
        trial = await protocol.new_trial(
            ts.Trial(name="mlp", parameters={"lr": 0.1}, project_id=project.uid, group_id=group.uid),
            auto_increment=True,
        )
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        await protocol.commit(level="folded")
        [again] = await protocol.fetch_trials({"uid": trial.uid, "metrics.loss.last": {"$lt": 1}})
        history = await protocol.fetch_metrics(trial, "loss")
        projects = await protocol.fetch_projects({"uid": project.uid})
        groups = await protocol.fetch_groups({"uid": group.uid})

    loss = again.metrics["loss"]
    assert (loss.last, loss.last_step) == (0.5, 1)
    assert (loss.count, loss.avg, loss.sd, loss.min, loss.max, loss.sum) == (1, 0.5, 0.0, 0.5, 0.5, 0.5)
    assert (again.chronos, again.parameters, again.metadata, again.tags) == ({}, {"lr": 0.1}, {}, {})
    assert (again.status, again.errors, again.lost_events) == (ts.Status.CreatedGroup, [], 0)
    assert (history["loss"].steps.tolist(), history["loss"].values.tolist()) == ([1], [0.5])
    assert history["loss"].times.dtype == np.dtype("datetime64[us]")
    assert projects[0].trials == [trial.uid]
    assert groups[0].trials == [trial.uid]
