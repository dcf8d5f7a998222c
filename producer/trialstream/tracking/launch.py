"""Launchers of distributed training: the run, the rank and the attempt of this process, from its environment.

| launcher | run | rank of world size | attempt |
|---|---|---|---|
| none | `TRIALSTREAM_RUN_ID` | `RANK` of `WORLD_SIZE` | `TRIALSTREAM_ATTEMPT` |
| torchrun | `TORCHELASTIC_RUN_ID` | `RANK` of `WORLD_SIZE` | `TORCHELASTIC_RESTART_COUNT`, `MASTER_PORT` |
| SLURM | `SLURM_JOB_ID`, `SLURM_STEP_ID` | `SLURM_PROCID` of `SLURM_STEP_NUM_TASKS` | `SLURM_RESTART_COUNT` |
| Open MPI | `PMIX_NAMESPACE` or `OMPI_MCA_ess_base_jobid` | `OMPI_COMM_WORLD_RANK` of `OMPI_COMM_WORLD_SIZE` | |
| MPICH, Intel MPI, MVAPICH | `TRIALSTREAM_RUN_ID` | `PMI_RANK` of `PMI_SIZE`, `MV2_COMM_WORLD_RANK` of `…_SIZE` | |
| JSM (IBM) | `LSB_JOBID`, `JSM_NAMESPACE_ID` | `JSM_NAMESPACE_RANK` of `JSM_NAMESPACE_SIZE` | |

`TRIALSTREAM_RUN_ID` and `TRIALSTREAM_ATTEMPT` replace the run and the attempt of every launcher.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launch", "detect"]

# Names of the jobs in which SLURM starts a shell for a person, in which many trials may run one after the other.
_INTERACTIVE = frozenset({"bash", "interactive", "sh", "zsh"})


@dataclass(frozen=True)
class Launch:
    """The place of this process in a run, as its launcher has set it.

    Attributes:
        run: Id of the run that all ranks and all restarts share; None if the launcher has none.
        rank: Number of this process, from 0; None outside of a distributed run.
        world_size: Number of ranks; None outside of a distributed run.
        attempt: Text that all ranks of one start share, and that differs after a restart; None if there is none.
    """

    run: str | None = None
    rank: int | None = None
    world_size: int | None = None
    attempt: str | None = None


def detect(environ: Mapping[str, str] | None = None, *, run_id: str | None = None) -> Launch:
    """Find the launcher of this process.

    Args:
        environ: Environment variables; those of this process if not given.
        run_id: Id of the run, which replaces that of the environment.

    Returns:
        The launch; without a run and a rank if there is no launcher.
    """
    env = os.environ if environ is None else environ
    found = _torchrun(env) or _slurm(env) or _open_mpi(env) or _jsm(env) or _other_mpi(env) or _plain(env) or Launch()
    run = run_id if run_id is not None else env.get("TRIALSTREAM_RUN_ID") or found.run
    return Launch(run, found.rank, found.world_size, env.get("TRIALSTREAM_ATTEMPT") or found.attempt)


def _torchrun(env: Mapping[str, str]) -> Launch | None:
    run = env.get("TORCHELASTIC_RUN_ID")
    if run is None:
        return None
    # Without --rdzv-id, torchrun has the id "none" for every run.
    attempt = f"torchrun {env.get('TORCHELASTIC_RESTART_COUNT', '0')} {env.get('MASTER_PORT', '')}".strip()
    return _launch(env, None if run == "none" else f"torchrun {run}", "RANK", "WORLD_SIZE", attempt)


def _slurm(env: Mapping[str, str]) -> Launch | None:
    job = env.get("SLURM_JOB_ID")
    # Without a step, this is the script of the job itself, of which there is one, whatever the number of tasks.
    if job is None or "SLURM_STEP_ID" not in env or env.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return None
    run = f"slurm {job}.{env['SLURM_STEP_ID']}"
    return _launch(env, run, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", f"slurm {env.get('SLURM_RESTART_COUNT', '0')}")


def _open_mpi(env: Mapping[str, str]) -> Launch | None:
    run = env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid")
    return _launch(env, run and f"mpi {run}", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", run)


def _jsm(env: Mapping[str, str]) -> Launch | None:
    job = env.get("LSB_JOBID")
    run = f"jsm {job} {env.get('JSM_NAMESPACE_ID', '')}".strip() if job else None
    return _launch(env, run, "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", run)


def _other_mpi(env: Mapping[str, str]) -> Launch | None:
    return _launch(env, None, "PMI_RANK", "PMI_SIZE", None) or _launch(
        env, None, "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", None
    )


def _plain(env: Mapping[str, str]) -> Launch | None:
    return _launch(env, None, "RANK", "WORLD_SIZE", None)


def _launch(env: Mapping[str, str], run: str | None, rank: str, size: str, attempt: str | None) -> Launch | None:
    """Make a launch; None if the rank or the size is missing or no number."""
    try:
        number, count = int(env[rank]), int(env[size])
    except (KeyError, ValueError):
        return None
    return Launch(run, number, count, attempt) if 0 <= number < count else None
