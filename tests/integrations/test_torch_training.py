"""Real trainings with torch and the frameworks on it: `make test-torch`; skipped where torch is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trialstream as ts
import trialstream.sync
from trialstream.tracking.handle import read_mark

torch = pytest.importorskip("torch", reason="torch is not installed: make test-torch")

pytestmark = pytest.mark.filterwarnings("default::FutureWarning", "default::DeprecationWarning")  # of the frameworks

PROCESSES = 2
RANK = """
import sys
import torch
import torch.distributed as dist
import trialstream as ts

dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with ts.track(sys.argv[1], capture=False) as t:
    for _ in t.timed(range(5), "step"):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        t.log({"loss": loss}, step=t.step)
dist.destroy_process_group()
"""


def data():
    """A data set of 32 rows."""
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    return torch.utils.data.TensorDataset(inputs, inputs.sum(1, keepdim=True))


@pytest.mark.parametrize(
    "number",
    [
        torch.tensor(1.5),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.tensor(1.5, dtype=torch.float16),
        torch.tensor([1.5]),
        torch.tensor(1.5, requires_grad=True),
        torch.nn.Parameter(torch.tensor(1.5)),
    ],
    ids=["float32", "bfloat16", "float16", "one element", "with a gradient", "a parameter"],
)
def test_a_tensor_is_a_metric(tracker, logged, number):
    """A tensor of one number is logged with its value at the call, whatever its type."""
    tracker.log({"loss": number}, step=1)
    with torch.no_grad():
        number.zero_()
    _, history = logged()

    assert history["loss"].values.tolist() == [1.5]


def test_a_loop_over_a_data_loader(tracker, logged):
    """A timed loader with worker processes counts its batches, and its workers leave the trial alone."""
    loader = torch.utils.data.DataLoader(data(), batch_size=8, num_workers=2)
    for inputs, _ in tracker.timed(loader, "batch"):
        tracker.log({"mean": inputs.mean()}, step=tracker.step)
    trial, history = logged()

    assert history["mean"].steps.tolist() == [1, 2, 3, 4]
    assert trial.chronos["batch"].count + len(trial.chronos["batch"].skipped_values) == 4
    assert trial.status is ts.Status.Running


def test_ranks_of_torchrun_make_one_trial(served, name, tmp_path):
    """Each rank of a training with gradients that are averaged logs to the one trial of the job."""
    script = tmp_path / "rank.py"
    script.write_text(RANK, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={PROCESSES}", "--master-port=0"]
    ran = subprocess.run(
        [*command, "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", f"--rdzv-id={name}", script, name],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    with trialstream.sync.connect() as protocol:
        [trial] = protocol.fetch_trials({"name": name}, latest=True)
        by_rank = protocol.fetch_metrics(trial, "loss", by="rank")["loss"]

    assert trial.status is ts.Status.Completed
    assert {rank: each.status for rank, each in trial.ranks.items()} == dict.fromkeys(
        range(PROCESSES), ts.Status.Completed
    )
    assert {rank: each.steps.tolist() for rank, each in by_rank.items()} == {
        rank: [1, 2, 3, 4, 5] for rank in range(PROCESSES)
    }


def test_lightning(tracker, logged, tmp_path):
    """A trainer logs its metrics and hyperparameters, and marks its checkpoint with the last step."""
    lightning = pytest.importorskip("lightning.pytorch")
    from trialstream.integrations.lightning import LightningLogger

    class Model(lightning.LightningModule):
        def __init__(self, rate):  # noqa: ARG002 (`save_hyperparameters` reads it)
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, _):
            loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)

    saving = lightning.callbacks.ModelCheckpoint(tmp_path, save_last=True)
    trainer = lightning.Trainer(
        logger=LightningLogger(),
        max_epochs=2,
        callbacks=[saving],
        log_every_n_steps=1,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Model(0.1), torch.utils.data.DataLoader(data(), batch_size=8))
    trial, history = logged()

    assert history["loss"].steps.tolist() == list(range(8))
    assert trial.parameters["rate"] == 0.1
    assert read_mark(tmp_path / "last.ckpt").step == 7


def test_transformers(tracker, logged, tmp_path):
    """A trainer logs losses, evaluations and its arguments, and marks its checkpoints."""
    transformers = pytest.importorskip("transformers")
    from trialstream.integrations.transformers import TransformersCallback

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, inputs, labels):
            found = self.layer(inputs)
            return {"loss": torch.nn.functional.mse_loss(found, labels), "logits": found}

    rows = [{"inputs": inputs, "labels": labels} for inputs, labels in data()]
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=8,
        logging_steps=1,
        save_steps=4,
        eval_strategy="steps",
        eval_steps=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = transformers.Trainer(
        Model(), args, train_dataset=rows, eval_dataset=rows, callbacks=[TransformersCallback()]
    )
    trainer.train()
    trial, history = logged()

    assert history["train/loss"].steps.tolist() == [1, 2, 3, 4]
    assert history["train/train_loss"].steps.tolist() == [4]  # the mean of the whole training
    assert history["eval/loss"].steps.tolist() == [2, 4]
    assert trial.parameters["args"]["max_steps"] == 4
    assert read_mark(tmp_path / "checkpoint-4").step == 4


def test_accelerate(tracker, logged):
    """An accelerator logs its configuration and its rows."""
    accelerate = pytest.importorskip("accelerate")
    from trialstream.integrations.accelerate import AccelerateTracker

    accelerator = accelerate.Accelerator(log_with=AccelerateTracker(), cpu=True)
    accelerator.init_trackers("a project", config={"lr": 0.1})
    model, optimizer, loader = accelerator.prepare(
        layer := torch.nn.Linear(4, 1),
        torch.optim.SGD(layer.parameters(), lr=0.1),
        torch.utils.data.DataLoader(data(), batch_size=16),
    )
    for step, (inputs, labels) in enumerate(loader):
        loss = torch.nn.functional.mse_loss(model(inputs), labels)
        accelerator.backward(loss)
        optimizer.step()
        accelerator.log({"loss": loss.item()}, step=step)
    accelerator.end_training()
    trial, history = logged()

    assert history["loss"].steps.tolist() == [0, 1]
    assert trial.parameters == {"lr": 0.1}


def test_ignite(tracker, logged):
    """Outputs and learning rates of a real engine are rows with the number of the iteration."""
    engines = pytest.importorskip("ignite.engine")
    from trialstream.integrations.ignite import IgniteLogger

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = engines.create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
    completed = engines.Events.ITERATION_COMPLETED
    logger = IgniteLogger()
    logger.attach_output_handler(trainer, completed, tag="train", output_transform=lambda loss: {"loss": loss})
    logger.attach_opt_params_handler(trainer, completed, optimizer=optimizer, tag="train")
    trainer.run(torch.utils.data.DataLoader(data(), batch_size=16), max_epochs=1)
    _, history = logged()

    assert history["train/loss"].steps.tolist() == [1, 2]
    assert set(history["train/lr/group_0"].values.tolist()) == {0.1}


def test_ray_tune(tracker, name, tmp_path):
    """Each trial of a real tuner is a trial of its group, and one that raises has its status."""
    tune = pytest.importorskip("ray.tune")
    from trialstream.integrations.ray import RayTuneCallback

    def train(config):
        if config["lr"] < 0:
            raise ValueError(config["lr"])
        return {"loss": config["lr"]}

    tuner = tune.Tuner(
        train,
        param_space={"lr": tune.grid_search([0.5, -1.0])},
        run_config=tune.RunConfig(
            callbacks=[RayTuneCallback(project=f"p {name}")], storage_path=str(tmp_path), verbose=0
        ),
    )
    tuner.fit()
    trials = tracker.protocol.fetch_trials({"project_id": f"p {name}"}, sort="-parameters.lr", latest=True)

    assert [each.status for each in trials] == [ts.Status.Completed, ts.Status.Exception]
    assert [each.parameters["lr"] for each in trials] == [0.5, -1.0]
    assert trials[0].metrics["loss"].last == 0.5
