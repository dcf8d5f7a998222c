"""Ten thousand trials in a moment: copies of the document of one trial that was logged and folded."""

from __future__ import annotations

import copy
import random

import trialstream as ts
from pymongo import MongoClient
from trialstream.config import Config
from trialstream.sync import SyncProtocol

COUNT = 10_000
OPTIMIZERS = ("adam", "lamb", "sgd")


def log_many(config: Config, protocol: SyncProtocol) -> None:
    """Store `COUNT` trials of the project `many`, named `run-00000` and on, each 1 ms after the one before.

    `parameters.index` is the number of a trial, `parameters.optimizer` one of three in turn, and `metrics.loss.last` is
    the number as a share of the whole.
    """
    protocol.new_project(ts.Project(name="many"))
    pattern = protocol.new_trial(
        ts.Trial(name="run-00000", project_id="many", parameters={"index": 0, "optimizer": OPTIMIZERS[0], "lr": 0.1})
    )
    assert pattern is not None
    protocol.log_trial_start(pattern)
    protocol.log_trial_metrics(pattern, step=1, loss=0.0)
    protocol.log_trial_finish(pattern)
    protocol.commit("folded")
    rng = random.Random(1)
    with MongoClient(config.mongo) as client:
        trials = client[config.database]["trials"]
        document = trials.find_one({"_id": pattern.uid})
        copies = []
        for index in range(1, COUNT):
            each = copy.deepcopy(document)
            each["hash"] = f"{index:032x}"
            each["_id"] = f"{each['hash']}_0"
            each["name"] = f"run-{index:05}"
            each["created"] += 1000 * index
            each["parameters"] = {
                "index": index,
                "optimizer": OPTIMIZERS[index % 3],
                "lr": 10 ** rng.uniform(-5, -1),
            }
            each["metrics"]["loss"]["last"] = index / COUNT
            copies.append(each)
        trials.insert_many(copies, ordered=False)
