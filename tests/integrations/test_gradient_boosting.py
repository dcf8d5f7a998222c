"""XGBoost and LightGBM: their evaluations are rows."""

from __future__ import annotations

import numpy as np
import pytest

DATA = np.random.default_rng(0).normal(size=(80, 3))
TARGETS = (DATA[:, 0] > 0).astype(float)


@pytest.fixture
def xgboost():
    """XGBoost, if it is installed."""
    return pytest.importorskip("xgboost", reason="xgboost is not installed: make test-integrations")


@pytest.fixture
def lightgbm():
    """LightGBM, if it is installed."""
    return pytest.importorskip("lightgbm", reason="lightgbm is not installed: make test-integrations")


def test_xgboost(xgboost, logged):
    """Each iteration is a row; the summary has the best one."""
    from trialstream.integrations.xgboost import XGBoostCallback

    data = xgboost.DMatrix(DATA, TARGETS)
    parameters = {"objective": "binary:logistic", "nthread": 1}
    evaluations: dict = {}
    model = xgboost.train(
        parameters,
        data,
        4,
        evals=[(data, "train")],
        evals_result=evaluations,
        early_stopping_rounds=2,
        callbacks=[XGBoostCallback()],
    )
    trial, history = logged()

    assert history["train/logloss"].steps.tolist() == [0, 1, 2, 3]
    assert history["train/logloss"].values.tolist() == evaluations["train"]["logloss"]
    assert trial.metadata["summary/best_iteration"] == model.best_iteration
    assert trial.metadata["summary/best_score"] == model.best_score


def test_cross_validation_of_xgboost(xgboost, logged):
    """Of a cross-validation, mean and deviation are logged."""
    from trialstream.integrations.xgboost import XGBoostCallback

    parameters = {"objective": "binary:logistic", "nthread": 1}
    xgboost.cv(parameters, xgboost.DMatrix(DATA, TARGETS), 2, nfold=2, callbacks=[XGBoostCallback()])
    _, history = logged()

    assert {"train/logloss", "train/logloss-std", "test/logloss", "test/logloss-std"} <= set(history)
    assert len(history["test/logloss-std"]) == 2


def test_lightgbm(lightgbm, logged):
    """Each iteration is a row; the parameters are those of the trial."""
    from trialstream.integrations.lightgbm import LightGBMCallback

    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "learning_rate": 0.3}
    evaluations: dict = {}
    data = lightgbm.Dataset(DATA, TARGETS)
    callbacks = [LightGBMCallback(), lightgbm.record_evaluation(evaluations)]
    lightgbm.train(parameters, data, 3, valid_sets=[data], valid_names=["train"], callbacks=callbacks)
    trial, history = logged()

    assert history["train/binary_logloss"].steps.tolist() == [0, 1, 2]
    assert history["train/binary_logloss"].values.tolist() == evaluations["train"]["binary_logloss"]
    assert trial.parameters["lightgbm"]["learning_rate"] == 0.3


def test_cross_validation_of_lightgbm(lightgbm, logged):
    """Of a cross-validation, mean and deviation are logged."""
    from trialstream.integrations.lightgbm import LightGBMCallback

    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    lightgbm.cv(parameters, lightgbm.Dataset(DATA, TARGETS), 2, nfold=2, callbacks=[LightGBMCallback()])
    _, history = logged()

    assert {"valid/binary_logloss", "valid/binary_logloss-std"} <= set(history)


def test_the_last_row_before_an_early_stop(lightgbm, logged):
    """The iteration in which LightGBM stops early is logged too."""
    from trialstream.integrations.lightgbm import LightGBMCallback

    data = lightgbm.Dataset(DATA, TARGETS)
    other = data.create_valid(DATA, 1 - TARGETS)
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    callbacks = [lightgbm.early_stopping(2, verbose=False), LightGBMCallback()]
    lightgbm.train(parameters, data, 20, valid_sets=[other], callbacks=callbacks)
    _, history = logged()

    assert history["valid_0/binary_logloss"].steps.tolist() == [0, 1, 2]
