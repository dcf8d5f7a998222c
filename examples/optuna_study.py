"""A study of Optuna with eight workers, which share its storage over the log.

    pip install 'trialstream[optuna]'
    eval "$(trialstream env)"
    python examples/optuna_study.py

The workers are processes, as they would be on eight machines. The log decides which worker gets which trial, so no
database and no lock is needed, and no number is given twice. Each worker also logs its trials as trials of trialstream,
in a group with the name of the study.
"""

from __future__ import annotations

import multiprocessing
import uuid

import optuna
import trialstream.sync
from optuna.storages import JournalStorage
from trialstream.integrations.optuna import LogBackend, OptunaCallback

WORKERS, TRIALS = 8, 3


def objective(trial: optuna.Trial) -> float:
    """Return the loss of one trial, least at lr = 0.01 and 3 layers."""
    lr, layers = trial.suggest_float("lr", 1e-4, 1.0, log=True), trial.suggest_int("layers", 1, 5)
    return abs(lr - 0.01) + abs(layers - 3)


def work(name: str) -> None:
    """Run some trials of the study, as one worker."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = LogBackend(name)
    study = optuna.create_study(study_name=name, storage=JournalStorage(backend), load_if_exists=True)
    study.optimize(objective, n_trials=TRIALS, callbacks=[OptunaCallback()])
    backend.close()


def main() -> None:
    """Run the workers, and print what the storage and the trials say."""
    name = f"study {uuid.uuid4().hex[:8]}"
    workers = [multiprocessing.get_context("spawn").Process(target=work, args=(name,)) for _ in range(WORKERS)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    backend = LogBackend(name)
    study = optuna.load_study(study_name=name, storage=JournalStorage(backend))
    numbers = sorted(each.number for each in study.trials)
    backend.close()
    with trialstream.sync.connect() as protocol:
        [group] = protocol.fetch_groups({"name": name}, latest=True)
        trials = protocol.fetch_trials({"group_id": group.uid})
    print(
        f"{len(set(numbers))} trials of {len(numbers)} with a number of their own, {len(trials)} logged, "
        f"best loss {study.best_value:.3f}"
    )


if __name__ == "__main__":
    main()
