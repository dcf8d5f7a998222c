"""Hydra: each job is a trial. In the configuration:

hydra:
  callbacks:
    trialstream:
      _target_: trialstream.integrations.hydra.HydraCallback
      project: digits
"""  # noqa: D415 (ends with the example)

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from trialstream.tracking import SyncTracker, track

__all__ = ["HydraCallback"]


class HydraCallback(Callback):
    """Tracks each job as a trial, which is the current one while the job runs.

    Its parameters are the configuration of the job, without that of Hydra; the metadata `hydra` has the overrides and
    the folder of the job. The jobs of a multirun are in one group. Hydra shows errors of callbacks as warnings.

    Args:
        name: Name of the trials; None for that of the job.
        project: Name of their project; None for none.
        group: Name of their group; None for none, and in a multirun for the folder of the sweep.
        **settings: Further arguments of `track`, and settings as for `connect`.
    """

    def __init__(
        self, name: str | None = None, project: str | None = None, group: str | None = None, **settings: Any
    ) -> None:
        self._name = name
        self._project = project
        self._group = group
        self._settings = settings
        self._tracker: SyncTracker | None = None

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Start the trial.

        Args:
            config: Configuration of the job and of Hydra.
        """
        hydra = config.hydra
        is_sweep = str(hydra.mode).endswith("MULTIRUN")
        names = [str(name) for name in config if name != "hydra"]
        self._tracker = track(
            self._name or hydra.job.name,
            project=self._project,
            group=self._group or (hydra.sweep.dir if is_sweep else None),
            parameters=OmegaConf.to_container(OmegaConf.masked_copy(config, names), resolve=True),
            metadata={"hydra": {"overrides": list(hydra.overrides.task), "output_dir": hydra.runtime.output_dir}},
            **self._settings,
        ).start()

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        """End the trial, with the exception of the job if there is one.

        Args:
            config: Configuration of the job and of Hydra.
            job_return: Result of the job.
        """
        if self._tracker is not None:
            result = job_return._return_value  # noqa: SLF001 (the property raises the exception)
            self._tracker.finish(result if isinstance(result, BaseException) else None)
