"""Integrations of frameworks that need torch, against the framework where it is installed, or its recorded contract."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from argparse import Namespace
from types import SimpleNamespace

import contracts
import pytest
import trialstream as ts
from trialstream.tracking.handle import read_mark


@pytest.fixture
def integration(monkeypatch):
    """Import an integration, over the recorded contract if its framework is not installed."""
    loaded: list[str] = []

    def load(name: str):
        if importlib.util.find_spec(name) is None:
            for path, module in contracts.modules().items():
                if path.partition(".")[0] == name:
                    monkeypatch.setitem(sys.modules, path, module)
        loaded.append(f"trialstream.integrations.{name}")
        return importlib.import_module(loaded[-1])

    yield load
    for each in loaded:
        del sys.modules[each]


def test_lightning(integration, tracker, logged, tmp_path):
    """Metrics, hyperparameters and checkpoints are logged, and the trial has name and uid."""
    logger = integration("lightning").LightningLogger()
    saved = SimpleNamespace(last_model_path="", best_model_path=str(tmp_path / "best.ckpt"))
    logger.log_hyperparams({"lr": 0.1})
    logger.log_hyperparams(Namespace(depth=2))
    logger.log_metrics({"loss": 0.5, "epoch": 0}, step=7)
    logger.after_save_checkpoint(saved)
    logger.log_metrics({"loss": 0.25}, step=9)
    logger.after_save_checkpoint(saved)  # the best one is still that of step 7
    logger.finalize("success")
    trial, history = logged()

    assert (logger.name, logger.version) == (tracker.trial.name, tracker.uid)
    assert logger.experiment is tracker
    assert history["loss"].steps.tolist() == [7, 9]
    assert trial.parameters == {"lr": 0.1, "depth": 2}
    assert read_mark(tmp_path / "best.ckpt").step == 7
    assert trial.status is ts.Status.Running


def test_lightning_marks_the_latest_checkpoint_each_time(integration, tracker, tmp_path):
    """A file that is written again has the step of its latest content."""
    logger = integration("lightning").LightningLogger(tracker)
    saved = SimpleNamespace(last_model_path=str(tmp_path / "last.ckpt"), best_model_path="")
    for step in (3, 5):
        logger.log_metrics({"loss": 1.0}, step=step)
        logger.after_save_checkpoint(saved)

    assert read_mark(tmp_path / "last.ckpt").step == 5


def test_transformers(integration, logged, tmp_path):
    """Reports, arguments and checkpoints of the main process are logged, by the names of the data."""
    callback = integration("transformers").TransformersCallback()
    args = SimpleNamespace(output_dir=str(tmp_path), to_dict=lambda: {"learning_rate": 1e-3})
    model = SimpleNamespace(config=SimpleNamespace(to_dict=lambda: {"layers": 2}))
    state = SimpleNamespace(global_step=0, is_world_process_zero=True, best_metric=0.5, best_model_checkpoint="c")
    other = SimpleNamespace(**{**vars(state), "is_world_process_zero": False})
    control = SimpleNamespace()
    for each in (state, other):
        callback.on_train_begin(args, each, control, model=model, optimizer=None)
        each.global_step = 10
        callback.on_log(args, each, control, logs={"loss": 0.5, "epoch": 0.1, "note": "x", "train_runtime": 3.0})
        callback.on_log(args, each, control, logs={"eval_loss": 0.25})
        callback.on_save(args, each, control)
        callback.on_train_end(args, each, control)
    trial, history = logged()

    assert set(history) == {"train/loss", "epoch", "train/train_runtime", "eval/loss"}
    assert history["eval/loss"].steps.tolist() == [10]
    assert trial.parameters["args"] == {"learning_rate": 1e-3}
    assert trial.metadata["model"] == {"layers": 2}
    assert trial.metadata["summary/best_metric"] == 0.5
    assert read_mark(tmp_path / "checkpoint-10").step == 10


def test_accelerate(integration, tracker, logged):
    """Numbers are rows, and texts metadata."""
    general = integration("accelerate").AccelerateTracker()
    general.store_init_configuration({"lr": 0.1})
    general.log({"loss": 0.5, "phase": "warm-up"}, step=3, unused=True)
    general.finish()
    trial, history = logged()

    assert (general.name, general.tracker) == ("trialstream", tracker)
    assert history["loss"].steps.tolist() == [3]
    assert trial.parameters == {"lr": 0.1}
    assert trial.metadata["phase"] == "warm-up"


class Engine:
    """An engine of Ignite that calls what is attached at once."""

    def __init__(self):
        self.state = SimpleNamespace(metrics={"acc": 0.5}, output=2.0, get_event_attrib_value={"epoch": 4}.get)

    def attach(self, event, handler, logger):
        """Call a handler."""
        handler(self, logger, event)


@pytest.mark.skipif(importlib.util.find_spec("ignite") is not None, reason="Ignite's own engine calls the handlers")
def test_ignite(integration, logged):
    """Metrics, outputs and learning rates are rows with the step of the event."""
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 0.2}])
    logger = integration("ignite").IgniteLogger()
    logger.attach_output_handler(
        Engine(), "epoch", tag="train", metric_names="all", output_transform=lambda x: {"loss": x}
    )
    logger.attach_opt_params_handler(Engine(), "epoch", optimizer=optimizer, tag="train")
    _, history = logged()

    assert set(history) == {"train/acc", "train/loss", "train/lr/group_0", "train/lr/group_1"}
    assert history["train/lr/group_1"].values.tolist() == [0.2]
    assert history["train/loss"].steps.tolist() == [4]


def test_ray_tune(integration, tracker, name, monkeypatch):
    """Each trial of Tune is a trial in the group of its experiment, with the exception if it has failed.

    The tuner may be a rank of a job: its trials are its own.
    """
    for key, x in {"RANK": "1", "WORLD_SIZE": "4", "TRIALSTREAM_RUN_ID": "job"}.items():
        monkeypatch.setenv(key, x)
    callback = integration("ray").RayTuneCallback(project=f"p {name}")
    tuned = [
        SimpleNamespace(
            trial_id=f"{i}", trainable_name="train", experiment_dir_name=f"e {name}", config={"lr": i}, error_file=None
        )
        for i in range(2)
    ]
    for each in tuned:
        callback.log_trial_start(each)
    for i, each in enumerate(tuned):
        result = {
            "loss": i,
            "training_iteration": 1,
            "config": {"lr": i},
            "date": "today",
            "nested": {"a": 1, "b": "x"},
        }
        callback.log_trial_result(5, each, result)
        callback.log_trial_end(each, failed=i == 1)
    trials = tracker.protocol.fetch_trials({"project_id": f"p {name}"}, sort="name", latest=True)

    assert [each.status for each in trials] == [ts.Status.Completed, ts.Status.Exception]
    assert [each.parameters for each in trials] == [{"lr": 0}, {"lr": 1}]
    assert set(trials[0].metrics) == {"loss", "nested/a"}
    assert trials[0].group_id == trials[1].group_id
