"""Reading spools without servers: `connect("spool:PATH", read_only=True)`."""

from __future__ import annotations

import logging

import pytest
import trialstream as ts
import trialstream.sync


def contents(folder):
    """Return all files below a folder with their bytes and times."""
    return {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.rglob("*") if each.is_file()}


def offline(folder, **settings):
    """Return an offline protocol, not entered yet."""
    return trialstream.sync.connect(offline=True, spool_dir=folder, **settings)


@pytest.fixture
def spools(tmp_path):
    """Spools of two writers that log to one trial, in turn, and of one that logs to another."""
    with offline(tmp_path) as one, offline(tmp_path) as two, offline(tmp_path) as three:
        project = one.new_project(ts.Project(name="p"))
        group = two.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid))
        trial = one.new_trial(ts.Trial(name="t", project_id="p", group_id=group.uid), auto_increment=True)
        one.log_trial_start(trial)
        for step in range(100):
            one.log_trial_metrics(trial, step=step, loss=step / 2)
        two.log_trial_metrics(trial, step=5, accuracy=0.5)
        two.log_trial_finish(trial)
        three.new_trial(ts.Trial(name="other", parameters={"lr": 0.1}), auto_increment=True)
    return tmp_path


def test_offline_runs_are_read(spools):
    """The runs of several writers are folded as if they were pushed, and no file changes."""
    before = contents(spools)
    with trialstream.sync.connect(f"spool:{spools}", read_only=True) as reader:
        trial, other = reader.fetch_trials()
        assert (trial.name, trial.status, len(trial.writers), trial.lost_events) == ("t", ts.Status.Completed, 2, 0)
        assert (other.name, other.parameters) == ("other", {"lr": 0.1})
        assert reader.fetch_trials({"metrics.loss.last": {"$gt": 49}}) == [trial]
        assert reader.fetch_metrics(trial, "loss")["loss"].values.tolist() == [step / 2 for step in range(100)]
        [project] = reader.fetch_projects()
        assert (len(project.groups), project.trials) == (1, [trial.uid])
        with pytest.raises(ts.ProjectionIsReadOnly):
            reader.log_trial_start(trial)
    assert contents(spools) == before


def test_a_trial_of_an_offline_protocol_is_found_while_it_runs(tmp_path):
    """A run can be looked at while its process still writes, by the trial that its creation has returned."""
    with offline(tmp_path) as protocol:
        trial = protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
        protocol.log_trial_metrics(trial, loss=1.0)
        protocol.commit("spooled")
        with trialstream.sync.connect(f"spool:{tmp_path}", read_only=True) as reader:
            assert reader.fetch_metrics(trial)["loss"].values.tolist() == [1.0]


def test_one_spool_of_several(spools):
    """The path may be that of one writer's spool."""
    found = set()
    for folder in (spools / "trialstream").iterdir():
        with trialstream.sync.connect(f"spool:{folder}", read_only=True) as reader:
            found.add(tuple(each.name for each in reader.fetch_trials()))

    assert found == {("t",), ("other",)}


def test_events_of_what_is_in_no_spool(tmp_path, caplog):
    """Events of a group that another process has created are counted in one warning."""
    with offline(tmp_path / "one") as one, offline(tmp_path / "two") as two:
        group = one.new_trial_group(ts.TrialGroup(name="g"))
        two.set_group_metadata(group, a=1)
        two.set_group_metadata(group, a=2)
        two.new_trial(ts.Trial(name="t"), auto_increment=True)
    with (
        caplog.at_level(logging.WARNING, "trialstream"),
        trialstream.sync.connect(f"spool:{tmp_path / 'two'}", read_only=True) as reader,
    ):
        assert [each.name for each in reader.fetch_trials()] == ["t"]
        assert reader.fetch_groups() == []

    assert [each.message.partition(" of the spools")[0] for each in caplog.records if "belong" in each.message] == [
        "2 events"
    ]


def test_a_torn_file(tmp_path):
    """After a kill, the events of all whole blocks are shown."""
    with offline(tmp_path) as protocol:
        trial = protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
        for step in (1, 2):
            protocol.log_trial_metrics(trial, step=step, loss=1.0)
            protocol.commit("spooled")
    [file] = tmp_path.rglob("*.avro")
    file.write_bytes(file.read_bytes()[:-10])

    with trialstream.sync.connect(f"spool:{tmp_path}", read_only=True) as reader:
        assert reader.fetch_metrics(trial)["loss"].steps.tolist() == [1]


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        pytest.param("spool:.", {}, "read_only: expected True with spool:", id="to log"),
        pytest.param("spool:/nowhere", {"read_only": True}, "spool: expected the path of a folder", id="no folder"),
        pytest.param("spool:", {"read_only": True}, "spool: expected the path of a folder", id="no path"),
        pytest.param(
            "spool:.", {"read_only": True, "prefix": "p"}, "prefix: expected no value with spool:", id="prefix"
        ),
    ],
)
def test_wrong_calls(url, settings, message):
    """Wrong calls are refused before anything is read."""
    with pytest.raises(ts.ConfigError, match=message):
        ts.connect(url, **settings)


def test_a_folder_without_spools(tmp_path):
    """A folder that holds no spool is no empty log."""
    with (
        pytest.raises(ts.SpoolError, match="expected a folder that holds a spool of yours"),
        trialstream.sync.connect(f"spool:{tmp_path}", read_only=True),
    ):
        pass
