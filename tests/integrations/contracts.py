"""Base classes of frameworks that need torch, as far as our integrations rely on them: recorded from their sources.

Each is our own statement of what the framework calls and provides. Where the framework itself is installed, the tests
use that instead.

| framework | recorded from |
|---|---|
| PyTorch Lightning 2.6 | `src/lightning/fabric/loggers/logger.py`, `src/lightning/pytorch/loggers/logger.py` |
| Transformers 5 | `src/transformers/trainer_callback.py` |
| Accelerate 1 | `src/accelerate/tracking.py` |
| Ignite 0.6 | `ignite/handlers/base_logger.py` |
| Ray 2 | `python/ray/tune/logger/logger.py` |
"""

# ruff: noqa: ARG002, B027, D102 (the methods are those of the frameworks)

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType


class Logger(ABC):
    """Lightning: properties `name` and `version`; `log_metrics(metrics, step)` and the like are called on all ranks."""

    @property
    @abstractmethod
    def name(self): ...

    @property
    @abstractmethod
    def version(self): ...

    @abstractmethod
    def log_metrics(self, metrics, step=None): ...

    @abstractmethod
    def log_hyperparams(self, params, *args, **kwargs): ...

    def after_save_checkpoint(self, checkpoint_callback): ...

    def save(self): ...

    def finalize(self, status):
        self.save()


def rank_zero_only(function):
    """Lightning: calls the function on rank 0 only."""

    def run(*args, **kwargs):
        return function(*args, **kwargs) if rank_zero_only.rank == 0 else None

    return run


rank_zero_only.rank = 0


class TrainerCallback:
    """Transformers: `args`, `state` and `control` are positional, all else is passed by name."""

    def on_train_begin(self, args, state, control, **kwargs): ...

    def on_log(self, args, state, control, **kwargs): ...

    def on_save(self, args, state, control, **kwargs): ...

    def on_train_end(self, args, state, control, **kwargs): ...


class GeneralTracker:
    """Accelerate: its constructor reads the three attributes that a tracker must have."""

    main_process_only = True

    def __init__(self):
        missing = [each for each in ("name", "requires_logging_directory", "tracker") if not hasattr(self, each)]
        if missing:
            raise NotImplementedError(missing)


class BaseOutputHandler:
    """Ignite: gathers metrics and outputs by name, with a tag; the step is that of the event."""

    def __init__(self, tag, metric_names=None, output_transform=None, global_step_transform=None):
        self.tag = tag
        self.metric_names = metric_names
        self.output_transform = output_transform
        self.global_step_transform = global_step_transform or (
            lambda engine, event: engine.state.get_event_attrib_value(event)
        )

    def _setup_output_metrics_state_attrs(self, engine, log_text=False, key_tuple=True):
        assert (log_text, key_tuple) == (False, False)
        found = dict(engine.state.metrics) if self.metric_names == "all" else {}
        if self.output_transform is not None:
            found |= self.output_transform(engine.state.output)
        return {f"{self.tag}/{name}": x for name, x in found.items()}


class BaseOptimizerParamsHandler:
    """Ignite: an optimizer, and the name of one of its parameters."""

    def __init__(self, optimizer, param_name="lr", tag=None):
        self.optimizer = optimizer
        self.param_name = param_name
        self.tag = tag


class BaseLogger(ABC):
    """Ignite: makes handlers by two methods, and calls them as `handler(engine, logger, event)`."""

    def attach_output_handler(self, engine, event_name, *args, **kwargs):
        engine.attach(event_name, self._create_output_handler(*args, **kwargs), self)

    def attach_opt_params_handler(self, engine, event_name, *args, **kwargs):
        engine.attach(event_name, self._create_opt_params_handler(*args, **kwargs), self)

    @abstractmethod
    def _create_output_handler(self, *args, **kwargs): ...

    @abstractmethod
    def _create_opt_params_handler(self, *args, **kwargs): ...


class LoggerCallback:
    """Tune: calls from the tuner's process, with its trial."""

    def log_trial_start(self, trial): ...

    def log_trial_result(self, iteration, trial, result): ...

    def log_trial_end(self, trial, failed=False): ...


def modules() -> dict[str, ModuleType]:
    """Make modules with these classes, by the names under which the integrations import them."""
    wanted = {
        "lightning.pytorch.loggers.logger": {"Logger": Logger},
        "lightning.pytorch.utilities": {"rank_zero_only": rank_zero_only},
        "transformers": {"TrainerCallback": TrainerCallback},
        "accelerate.tracking": {"GeneralTracker": GeneralTracker},
        "ignite.handlers.base_logger": {
            "BaseLogger": BaseLogger,
            "BaseOptimizerParamsHandler": BaseOptimizerParamsHandler,
            "BaseOutputHandler": BaseOutputHandler,
        },
        "ray.tune.logger": {"LoggerCallback": LoggerCallback},
    }
    made: dict[str, ModuleType] = {}
    for path, names in wanted.items():
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            made.setdefault(".".join(parts[:depth]), ModuleType(".".join(parts[:depth])))
        vars(made[path]).update(names)
    return made
