"""The protocol for code that is not async."""

from __future__ import annotations

import threading

import pytest
import trialstream as ts
import trialstream.sync


def test_every_call_blocks_and_returns_what_the_asynchronous_one_does(config, consumer):
    """Every call of a whole run works: project, group, trial, logging from several threads, claims, reading, errors."""
    consumer(config)
    with trialstream.sync.connect(kafka=config.kafka, mongo=config.mongo, prefix=config.prefix) as protocol:
        project = protocol.new_project(ts.Project(name="p"))
        group = protocol.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid))
        trial = protocol.new_trial(ts.Trial(name="t", parameters={"lr": 0.1}))
        protocol.add_project_trial(project, trial)
        protocol.add_group_trial(group, trial)
        protocol.set_group_metadata(group, budget=3)
        protocol.log_trial_start(trial)
        ready = threading.Barrier(4)

        def work(rank: int) -> None:
            protocol.log_trial_chrono_start(trial, "batch", aggregator=ts.StatAggregator.lazy(0))
            ready.wait(10)  # all four are open at once
            protocol.log_trial_metrics(trial, step=rank, loss=float(rank))
            protocol.log_trial_chrono_finish(trial, "batch")

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        protocol.log_trial_metrics(trial, {"step": 0.5, "trial": 1.0}, step=4)
        with pytest.raises(ts.InvalidValue, match=r"metrics\.a: expected one value"):
            protocol.log_trial_metrics(trial, {"a": 0.5}, a=4.0)
        protocol.log_trial_arguments(trial, depth=2)
        protocol.log_trial_metadata(trial, note="x")
        protocol.add_trial_tags(trial, {"kind": "test"})
        protocol.log_trial_finish(trial)
        protocol.commit(level="folded")
        [again] = protocol.fetch_trials({"uid": trial.uid})
        history = protocol.fetch_metrics(trial, "loss")["loss"]
        later = protocol.fetch_metrics(trial, "loss", since_row=int(history.rows[2]))["loss"]
        partial = (
            protocol.fetch_trials(fields=["tags.kind"]),
            protocol.fetch_groups(fields=[]),
            protocol.fetch_projects(fields=["trials"]),
        )
        claimed = protocol.fetch_and_update_trial({"uid": trial.uid}, "set_trial_status", ts.Status.Suspended)
        both = protocol.fetch_and_update_trial(
            {"uid": trial.uid},
            updates=[ts.update("log_trial_metrics", after=1.0), ts.update("add_trial_tags", {"trial": 1})],
        )
        with pytest.raises(ts.QueryError, match=r"^updates\[0\]: attr"):
            protocol.fetch_and_update_trial({"uid": trial.uid}, updates=[ts.update("commit")])
        updated = protocol.fetch_and_update_group({"uid": group.uid}, "set_group_metadata", done=True)
        with pytest.raises(ts.ChronoError, match="batch"):
            protocol.log_trial_chrono_finish(trial, "batch")
        found = (
            protocol.get_project(project).trials,
            protocol.get_trial_group(group).trials,
            [each.uid for each in protocol.get_trial(trial)],
            protocol.fetch_projects({})[0].groups,
            protocol.fetch_groups({})[0].metadata,
        )

    assert later.values.tolist() == history.values[2:].tolist()
    assert partial[0][0] == ts.Trial(
        name="t", hash=trial.hash, revision=trial.revision, created=trial.created, tags={"kind": "test"}
    )
    assert partial[1][0].uid == group.uid
    assert (partial[2][0].name, partial[2][0].trials, partial[2][0].groups) == ("p", [trial.uid], [])
    assert again.status is ts.Status.Completed
    assert again.parameters == {"lr": 0.1, "depth": 2}
    assert (again.metadata, again.tags) == ({"note": "x"}, {"kind": "test"})
    assert again.chronos["batch"].count == 4
    assert again.chronos["runtime"].count == 1
    assert again.lost_events == 0
    assert (again.metrics["step"].last, again.metrics["trial"].last_step) == (0.5, 4)
    assert (both.metrics["after"].last, both.tags) == (1.0, {"kind": "test", "trial": 1})
    assert sorted(history.steps) == [0, 1, 2, 3]
    assert claimed.status is ts.Status.Suspended
    assert updated.metadata == {"budget": 3, "done": True}
    assert found == ([trial.uid], [trial.uid], [trial.uid], [group.uid], {"budget": 3, "done": True})


def test_the_sync_protocol_has_every_method():
    """The protocol has every method of the asynchronous one, with the same parameter names."""
    import inspect

    from trialstream.sync import SyncProtocol

    for name, method in vars(ts.Protocol).items():
        if not name.startswith("_") and callable(method):
            ours = inspect.signature(getattr(SyncProtocol, name))
            assert list(ours.parameters) == list(inspect.signature(method).parameters), name


def test_leaving_by_an_exception_sends_all_events(config, consumer):
    """An exception that leaves the block propagates, and the events before it are folded."""
    consumer(config)
    settings = {"kafka": config.kafka, "mongo": config.mongo, "prefix": config.prefix}

    def fail() -> None:
        with trialstream.sync.connect(**settings) as protocol:
            trial = protocol.new_trial(ts.Trial(name="t"))
            protocol.log_trial_metrics(trial, loss=1.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with trialstream.sync.connect(**settings) as protocol:
        [again] = protocol.fetch_trials({"metrics.loss.last": 1.0}, latest=True)

    assert again.name == "t"


def test_calls_outside_the_block(tmp_path):
    """A call outside the block raises ProtocolClosed, as on the asynchronous protocol."""
    protocol = trialstream.sync.connect(offline=True, spool_dir=str(tmp_path))
    trial = ts.Trial(name="t")
    with pytest.raises(ts.ProtocolClosed, match=r"enter `with trialstream\.sync\.connect\(\)"):
        protocol.log_trial_start(trial)
    with pytest.raises(ts.ProtocolClosed, match="enter"):
        protocol.log_trial_metrics(trial, loss=1.0)
    with protocol:
        protocol.log_trial_metrics(protocol.new_trial(trial), loss=1.0)
    with pytest.raises(ts.ProtocolClosed, match="inside its block"):
        protocol.log_trial_metrics(trial, loss=1.0)
    with pytest.raises(ts.ProtocolClosed, match="once"):
        protocol.__enter__()
