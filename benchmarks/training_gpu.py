"""Slow-down of a training loop on a GPU by logging, beside other trackers: `python -m benchmarks.training_gpu`.

The loop's steps are bound by the thread that launches their operations: 13 ms each, of a model with many small layers.
Each step has a chrono, and logs a row of each of four shapes, of which one value is the loss, a tensor on the device.
Another thread, such as that of a data loader, wants the interpreter meanwhile. Trackers work offline, each in a process
of its own. Without torch or a GPU nothing is measured.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trialstream as ts
import trialstream.sync

from benchmarks.loops import grown, in_turn, logged, logged_by, other_thread, seconds
from benchmarks.peers import run_peer
from benchmarks.report import Mark, Row, median, table

if TYPE_CHECKING:
    from benchmarks.bench import Bench

__all__ = ["run", "slow_down"]

_STEP_SECONDS = 0.013
_STEPS = 100
_ROWS = 4
_WIDTH = 64
_MOST_PERCENT = 1.0
_PEERS = {"wandb offline": "wandb", "tensorboardX": "tensorboardx", "trackio": "trackio", "MLflow async": "mlflow"}


def _missing() -> str:
    """Return why nothing can be measured; empty if it can."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    return "" if importlib.import_module("torch").cuda.is_available() else "torch finds no GPU"


class _Training:
    """Steps of a model on the GPU that has so many layers that launching a step takes 13 ms."""

    def __init__(self) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._x = self._torch.randn(16, _WIDTH, device="cuda")
        self.finish: Callable[[], object] = self._torch.cuda.synchronize
        grown(self._time_of, 8, 20 * _STEP_SECONDS)

    def _time_of(self, layers: int) -> float:
        nn = self._torch.nn
        parts = [part for _ in range(layers) for part in (nn.Linear(_WIDTH, _WIDTH), nn.LayerNorm(_WIDTH), nn.ReLU())]
        self._model = nn.Sequential(*parts).to("cuda")
        self._optimizer = self._torch.optim.SGD(self._model.parameters(), lr=1e-3, foreach=False)
        seconds(self.step, 5, self.finish)
        return seconds(self.step, 20, self.finish)

    def step(self, _: int = 0) -> Any:
        """Launch one step, and return its loss, a tensor on the device."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._model(self._x).square().mean()
        loss.backward()
        self._optimizer.step()
        return loss.detach()


def _measured(training: _Training, logging: Callable[[int], object], repeat: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of a step with logging and without."""
    with other_thread():
        found = in_turn(
            lambda: seconds(logging, _STEPS, training.finish),
            lambda: seconds(training.step, _STEPS, training.finish),
            repeat=repeat,
        )
    with_logging, plain = ([each / _STEPS * 1e3 for each in both] for both in found)
    return with_logging, plain


def slow_down(log: Callable[[dict[str, Any], int], object], repeat: int = 10) -> dict[str, list[float]]:
    """Measure another tracker.

    Args:
        log: Logs metrics of a step.
        repeat: Number of repetitions.

    Returns:
        Milliseconds of a step, with logging and without.
    """
    training = _Training()
    with_logging, plain = _measured(training, logged_by(training.step, log, _ROWS), repeat)
    return {"logging": with_logging, "plain": plain}


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark: none without a GPU."""
    return _rows(quick=bench.quick)


def _rows(*, quick: bool) -> list[Row]:
    if reason := _missing():
        print(f"training_gpu measures nothing: {reason}", flush=True)
        return []
    training = _Training()
    with (
        tempfile.TemporaryDirectory() as folder,
        trialstream.sync.connect(offline=True, spool_dir=folder) as protocol,
    ):
        trial = protocol.new_trial(ts.Trial(name="training"))
        assert trial is not None
        ours, plain = _measured(training, logged(training.step, protocol, trial, _ROWS), 5 if quick else 10)
    peers = {name: run_peer(module, "train", timeout=600) for name, module in _PEERS.items()}
    slower = _percent(ours, plain)
    marks = [Mark.most("% slower", slower, _MOST_PERCENT, "%")]
    beside: dict[str, list[float] | str] = {"without logging": plain}
    for name, found in peers.items():
        if isinstance(found, str):
            beside[name] = found
            continue
        beside[name], beside[f"without {name}"] = found["logging"], found["plain"]
        marks.append(Mark.most(f"% slower, as {name}", slower, _percent(found["logging"], found["plain"]), "%"))
    what = "a step on a GPU with a chrono and rows of four shapes, with a tensor, while a thread wants the interpreter"
    return [Row(what, "ms", ours, beside, marks)]


def _percent(logging: list[float], plain: list[float]) -> float:
    return median([100 * (a / b - 1) for a, b in zip(logging, plain, strict=True)])


if __name__ == "__main__":
    if found := _rows(quick=False):
        print(table(found))
