"""The checks of `check_protocol`: each calls some methods, and compares the answers with the contract."""

from __future__ import annotations

import asyncio
import inspect
import traceback
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from trialstream_schemas.errors import (
    ChronoError,
    InvalidType,
    InvalidValue,
    ItemNotFound,
    ProtocolClosed,
    QueryError,
    TrialStreamError,
)
from trialstream_schemas.model.aggregators import RingAggregator, StatAggregator, timeseries_aggregator
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream.protocol import Protocol
from trialstream.testing.contract import (
    KEYS,
    METHODS,
    NOT_NUMBERS,
    NUMBERS,
    REFUSED,
    TRIAL_METHODS,
    VALUES,
    arguments_of,
)
from trialstream.updates import update

__all__ = ["CHECKS", "failures_of"]

_CLAIMERS = 8


class _Run:
    """Tools of a check.

    Attributes:
        protocol: The open protocol.
        factory: Makes another protocol on the same log.
        name: A name that nothing else has.
    """

    def __init__(self, protocol: Protocol, factory: Callable[[], Protocol]) -> None:
        self.protocol = protocol
        self.factory = factory
        self.name = f"check {uuid.uuid4().hex}"

    async def trial(self, **fields: Any) -> Trial:
        """Create a trial."""
        made = await self.protocol.new_trial(Trial(name=self.name, **fields), auto_increment=True)
        assert made is not None, "new_trial with auto_increment returned None"
        return made

    async def again(self, trial: Trial) -> Trial:
        """Read a trial again."""
        found = await self.protocol.fetch_trials({"uid": trial.uid})
        same("fetch_trials by uid", [each.uid for each in found], [trial.uid])
        return found[0]


def same(what: str, found: object, wanted: object) -> None:
    """Compare by `repr`, in which True and 1, and 0.0 and -0.0, differ, and NaN equals NaN."""
    assert repr(found) == repr(wanted), f"{what}: expected {wanted!r:.300}, got {found!r:.300}"


async def refused(what: str, call: Awaitable[object], error: type[TrialStreamError]) -> None:
    """Check that a call raises an error."""
    try:
        answer = await call
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{what}: expected {error.__name__}, got {other!r:.300}") from other
    raise AssertionError(f"{what}: expected {error.__name__}, got the answer {answer!r:.300}")


async def failures_of(factory: Callable[[], Protocol]) -> list[str]:
    """Run all checks, and return the failures, as texts."""
    failures = []
    async with factory() as protocol:
        for check in CHECKS:
            rule = (check.__doc__ or "").rstrip(".")
            try:
                await check(_Run(protocol, factory))
            except AssertionError as error:
                failures.append(f"{rule}: {error}")
            except Exception as error:  # noqa: BLE001 (the protocol may raise anything)
                place = traceback.extract_tb(error.__traceback__)[-1]
                failures.append(f"{rule}: {error!r} at {place.filename}:{place.lineno}")
    return failures


async def _takes_its_parameters_by_keyword(run: _Run) -> None:
    """Each method takes its parameters by keyword, and a read shows what was logged before."""
    project, group = Project(name=run.name), TrialGroup(name=run.name)
    calls = arguments_of(project, group, Trial(name=run.name))
    same("methods", sorted(calls), sorted(METHODS))
    answers = {method: await getattr(run.protocol, method)(**arguments) for method, arguments in calls.items()}
    [trial] = answers["fetch_trials"]
    same("uid", trial.uid, answers["new_trial"].uid)
    same("get_trial", [each.uid for each in answers["get_trial"]], [trial.uid])
    same("project and group", (trial.project_id, trial.group_id), (project.uid, group.uid))
    same("parameters", trial.parameters, {"lr": 0.1})
    same("metadata", trial.metadata["note"].values, ["a"])
    same("tags", trial.tags, {"good": True, "claimed": True})
    same("status", trial.status, Status.Completed)
    same("lost_events", trial.lost_events, 0)
    same("groups", answers["fetch_groups"][0].metadata, {"space": "grid", "claimed": True})
    same("projects", answers["fetch_projects"][0].trials, [trial.uid])
    same("fetch_metrics", answers["fetch_metrics"]["loss"].values.tolist(), [0.5])
    same("fetch_values", answers["fetch_values"], [(trial.uid, 0.5)])
    same("count_trials", answers["count_trials"], 1)
    same("ranks", {rank: each.host for rank, each in trial.ranks.items()}, {0: "a"})
    same("fetch_bands", [each.mean.tolist() for each in answers["fetch_bands"].values()], [[0.5]])
    same("fetch_histories", answers["fetch_histories"][trial.uid]["loss"].values.tolist(), [0.5])


async def _has_the_signatures(run: _Run) -> None:
    """Each method has the parameters of the contract."""
    for method in METHODS:
        found = inspect.signature(getattr(run.protocol, method)).parameters
        for name, wanted in list(inspect.signature(getattr(Protocol, method)).parameters.items())[1:]:
            assert name in found or wanted.kind in (wanted.VAR_POSITIONAL, wanted.VAR_KEYWORD), (
                f"{method}: expected a parameter {name!r}, got ({', '.join(found)})"
            )


async def _returns_values_unchanged(run: _Run) -> None:
    """Values and keys come back unchanged."""
    trial = await run.trial()
    for description, (given, wanted) in VALUES.items():
        await run.protocol.log_trial_arguments(trial, {description: given})
        await run.protocol.add_trial_tags(trial, x=given)
        found = await run.again(trial)
        same(f"arguments with {description}", found.parameters[description], wanted)
        same(f"tags with {description}", found.tags, {"x": wanted})
    for key in KEYS:
        await run.protocol.log_trial_metadata(trial, {key: {key: [1]}})
    same("keys", sorted((await run.again(trial)).metadata.items()), sorted((key, {key: [1]}) for key in KEYS))


async def _refuses_values(run: _Run) -> None:
    """Values that cannot be logged raise at the call, and nothing is logged."""
    trial, protocol = await run.trial(), run.protocol
    for description, (key, x, error) in REFUSED.items():
        for method in (protocol.log_trial_arguments, protocol.log_trial_metadata, protocol.add_trial_tags):
            await refused(f"{method.__name__} with {description}", method(trial, {key: x}), error)
    for description, x in NOT_NUMBERS.items():
        await refused(f"metrics with {description}", protocol.log_trial_metrics(trial, {"x": x}), InvalidType)
    found = await run.again(trial)
    same("the trial", (found.parameters, found.metadata, found.tags, found.metrics), ({}, {}, {}, {}))


async def _keeps_metrics(run: _Run) -> None:
    """Metrics are aggregated, and their histories keep every row with its step."""
    trial, protocol = await run.trial(), run.protocol
    for given, _ in NUMBERS.values():
        await protocol.log_trial_metrics(trial, {"any": given}, aggregator=StatAggregator.lazy(0))
    for step in range(1000):
        await protocol.log_trial_metrics(trial, step=step, loss=1.0 / (step + 1), accuracy=step)
    await protocol.log_trial_metrics(trial, {"ring": 3}, step="a", aggregator=RingAggregator.lazy(2))
    await protocol.log_trial_metrics(trial, {"text": 1.0}, step="last", aggregator=timeseries_aggregator)
    found = (await run.again(trial)).metrics
    same("count", (found["any"].count, found["loss"].count), (len(NUMBERS), 1000))
    same("last", (found["accuracy"].last, found["accuracy"].last_step, found["ring"].values), (999.0, 999, [3.0]))
    history = await protocol.fetch_metrics(trial, "loss", "accuracy")
    same("steps", history["loss"].steps.tolist(), list(range(1000)))
    assert np.array_equal(history["loss"].values, 1.0 / np.arange(1, 1001)), "values of a history differ"
    since = await protocol.fetch_metrics(trial, "accuracy", since_step=990)
    same("since_step", since["accuracy"].values.tolist(), [float(step) for step in range(990, 1000)])
    few = await protocol.fetch_metrics(trial, "loss", max_points=10)
    assert len(few["loss"]) <= 10, f"max_points=10: expected at most 10 rows, got {len(few['loss'])}"
    await refused("fetch_metrics of an unknown name", protocol.fetch_metrics(trial, "none"), ItemNotFound)


async def _measures_chronos(run: _Run) -> None:
    """Chronos are measured, and a finish without a start is refused."""
    trial, protocol = await run.trial(), run.protocol
    calls: list[str] = []
    await protocol.log_trial_chrono_start(
        trial, "epoch", StatAggregator.lazy(0), lambda: calls.append("start"), lambda: calls.append("end")
    )
    await protocol.log_trial_chrono_finish(trial, "epoch")
    await refused("a second finish", protocol.log_trial_chrono_finish(trial, "epoch"), ChronoError)
    same("callbacks", calls, ["start", "end"])
    same("count", (await run.again(trial)).chronos["epoch"].count, 1)


async def _creates_revisions(run: _Run) -> None:
    """A trial is created once, and further revisions with auto_increment only."""
    protocol, trial = run.protocol, Trial(name=run.name, parameters={"lr": 0.1})
    first = await protocol.new_trial(trial)
    assert first is not None, "new_trial of a new trial returned None"
    same("the same definition again", await protocol.new_trial(trial), None)
    second = await protocol.new_trial(trial, auto_increment=True)
    assert second is not None, "new_trial with auto_increment returned None"
    same("revisions", (first.revision, second.revision), (0, 1))
    same("get_trial", [each.revision for each in await protocol.get_trial(trial)], [0, 1])
    later = await protocol.new_trial(trial, auto_increment=True, wait=False)
    assert later is not None, "new_trial without a wait returned None"
    await protocol.log_trial_metrics(later, loss=1.0)
    found = await protocol.fetch_trials({"name": run.name}, sort="-revision", limit=1)
    same(
        "a trial whose creation nobody awaited",
        [(each.revision, list(each.metrics)) for each in found],
        [(2, ["loss"])],
    )


async def _creates_projects_and_groups(run: _Run) -> None:
    """A project or group is created once, and the first creation counts."""
    protocol = run.protocol
    await protocol.new_project(Project(name=run.name, description="first"))
    same("new_project again", (await protocol.new_project(Project(name=run.name))).description, "first")
    group = TrialGroup(name=run.name, project_id=run.name)
    assert await protocol.new_trial_group(group) is not None, "new_trial_group of a new group returned None"
    same("new_trial_group again", await protocol.new_trial_group(group), None)
    found = await protocol.get_trial_group(group)
    assert found is not None, "get_trial_group found nothing"
    project = await protocol.get_project(Project(name=run.name))
    same("groups of the project", project and project.groups, [found.uid])
    same("an unknown project", await protocol.get_project(Project(name=f"{run.name}?")), None)


async def _refuses_unknown_trials(run: _Run) -> None:
    """Methods of a trial that was never created raise ItemNotFound."""
    unknown = Trial(name=run.name)
    calls = arguments_of(Project(name=run.name), TrialGroup(name=run.name), unknown)
    for method in TRIAL_METHODS:
        await refused(method, getattr(run.protocol, method)(**calls[method]), ItemNotFound)
    await refused(
        "a claim without a match",
        run.protocol.fetch_and_update_trial({"name": run.name}, "log_trial_start"),
        ItemNotFound,
    )


async def _sets_statuses(run: _Run) -> None:
    """Starts, statuses and ends show on the trial, with the error of a failure."""
    trial, protocol = await run.trial(), run.protocol
    same("new", (await run.again(trial)).status, Status.CreatedGroup)
    await protocol.log_trial_start(trial)
    same("started", (await run.again(trial)).status, Status.Running)
    await protocol.set_trial_status(trial, CustomStatus("Paused", 701))
    same("custom", (await run.again(trial)).status, CustomStatus("Paused", 701))
    error = ValueError("diverged")
    await protocol.log_trial_finish(trial, ValueError, error)
    found = await run.again(trial)
    same(
        "failed",
        (found.status, [(each.type, each.message) for each in found.errors]),
        (Status.Exception, [("ValueError", "diverged")]),
    )
    await refused("a status of another type", protocol.set_trial_status(trial, "Running"), InvalidType)  # type: ignore[arg-type]  # that is the check


async def _claims_once(run: _Run) -> None:
    """Of any number of concurrent claims, of several protocols, each trial has one winner."""
    trials = [await run.trial() for _ in range(_CLAIMERS)]
    query = {"name": run.name, "status": "CreatedGroup"}
    change = [update("set_trial_status", Status.Running), update("add_trial_tags", taken=True)]
    async with run.factory() as other:
        claims = [
            each.fetch_and_update_trial(query, updates=change)
            for each in (run.protocol, other)
            for _ in range(_CLAIMERS // 2)
        ]
        won = await asyncio.gather(*claims)
        same("winners", sorted(each.uid for each in won), sorted(each.uid for each in trials))
        same("claimed", [(each.status, each.tags) for each in won], [(Status.Running, {"taken": True})] * _CLAIMERS)
        await refused("one more claim", other.fetch_and_update_trial(query, updates=change), ItemNotFound)


async def _answers_queries(run: _Run) -> None:
    """Queries filter, sort and limit, and unsupported ones raise QueryError."""
    protocol = run.protocol
    for lr in (0.3, 0.1, None, 0.2):
        await run.trial(parameters={"lr": lr, "layers": [1, {"x": lr}]})

    async def lrs(query: dict[str, Any], **options: Any) -> list[Any]:
        found = await protocol.fetch_trials({"name": run.name, **query}, **options)
        return [each.parameters.get("lr") for each in found]

    same("sort", await lrs({}, sort="parameters.lr"), [0.1, 0.2, 0.3, None])
    same("descending, limited", await lrs({}, sort="-parameters.lr", limit=2), [0.3, 0.2])
    same("a page", await lrs({}, sort="-parameters.lr", limit=2, offset=1), [0.2, 0.1])
    same("$gt", await lrs({"parameters.lr": {"$gt": 0.1}}, sort="parameters.lr"), [0.2, 0.3])
    same("a list on the way", await lrs({"parameters.layers.x": 0.1}), [0.1])
    same(
        "$or", await lrs({"$or": [{"parameters.lr": 0.1}, {"parameters.lr": None}]}, sort="parameters.lr"), [0.1, None]
    )
    same(
        "fields",
        [list(each.parameters) for each in await protocol.fetch_trials({"name": run.name}, fields=["parameters.lr"])],
        [["lr"]] * 4,
    )
    for query in ({"nothing": 1}, {"$where": "1"}, {"name": {"$near": 1}}):
        await refused(f"the query {query}", lrs(query), QueryError)


async def _commits(run: _Run) -> None:
    """Every level of commit returns, and shows to another protocol what was logged."""
    trial = await run.trial()
    for number, level in enumerate(("acked", "spooled", "folded")):
        await run.protocol.log_trial_metrics(trial, step=number, loss=1.0)
        await run.protocol.commit(level)  # type: ignore[arg-type]  # one of the levels
    await refused("an unknown level", run.protocol.commit("done"), InvalidValue)  # type: ignore[arg-type]  # that is the check
    async with run.factory() as other:
        [found] = await other.fetch_trials({"uid": trial.uid})
        same("rows", found.metrics["loss"].count, 3)


async def _opens_and_closes(run: _Run) -> None:
    """A protocol works inside its block only, and leaving the block keeps what was logged."""
    trial = await run.trial()
    other = run.factory()
    await refused("a protocol that was not entered", other.log_trial_metrics(trial, loss=1.0), ProtocolClosed)
    async with other:
        await other.log_trial_metrics(trial, loss=1.0)
    await refused("a protocol that was left", other.log_trial_metrics(trial, loss=2.0), ProtocolClosed)
    await refused("a protocol that is entered again", other.open(), ProtocolClosed)
    # The block has waited until the log has the event, and a read that is `latest` shows all events of the log.
    [found] = await run.protocol.fetch_trials({"uid": trial.uid}, latest=True)
    same("rows", [each.count for each in found.metrics.values()], [1])


CHECKS: list[Callable[[_Run], Awaitable[None]]] = [
    _takes_its_parameters_by_keyword,
    _has_the_signatures,
    _returns_values_unchanged,
    _refuses_values,
    _keeps_metrics,
    _measures_chronos,
    _creates_revisions,
    _creates_projects_and_groups,
    _refuses_unknown_trials,
    _sets_statuses,
    _claims_once,
    _answers_queries,
    _commits,
    _opens_and_closes,
]
