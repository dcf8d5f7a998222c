"""`autolog`: trainings are logged without callbacks in the code, until it is disabled."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import trialstream as ts
from trialstream.integrations.autologging import FRAMEWORKS, autolog

os.environ.setdefault("KERAS_BACKEND", "jax")
DATA = np.random.default_rng(0).normal(size=(40, 3))
TARGETS = (DATA[:, 0] > 0).astype(int)


@pytest.fixture(autouse=True)
def _disabled():
    """Leave the frameworks as they were."""
    yield
    assert autolog(disable=True) == []


def needs(name: str):
    """Skip where a framework is not installed."""
    return pytest.importorskip(name, reason=f"{name} is not installed: make test-integrations")


def test_what_is_installed_is_logged():
    """Those that are not installed are left out; a second call does nothing."""
    assert autolog() == [name for name in FRAMEWORKS if importlib.util.find_spec(name) is not None]
    assert autolog() == autolog()


@pytest.mark.parametrize(
    ("given", "error"), [("keras", ts.InvalidType), (["torch"], ts.InvalidValue)], ids=["a text", "an unknown one"]
)
def test_wrong_arguments(given, error):
    """A wrong name is refused, and names the argument."""
    with pytest.raises(error, match="frameworks"):
        autolog(given)


def test_sklearn(logged):
    """The outermost fit is logged, of classes that are defined later too."""
    needs("sklearn")
    from sklearn.base import BaseEstimator
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fit = Ridge.fit
    autolog(["sklearn"])

    class Later(BaseEstimator):
        """An estimator of the user."""

        def __init__(self, depth=2):
            self.depth = depth

        def fit(self, data, targets):
            """Fit nothing."""
            Ridge().fit(data, targets)
            return self

    make_pipeline(StandardScaler(), Ridge(0.5)).fit(DATA, TARGETS)
    Later(3).fit(DATA, TARGETS)
    with pytest.raises(ValueError, match="sample"):
        Ridge().fit(DATA, TARGETS[:3])
    autolog(disable=True)
    Ridge().fit(DATA, TARGETS)
    trial, _ = logged()

    assert set(trial.chronos) - {"runtime"} == {"fit/Pipeline", "fit/Later", "fit/Ridge"}
    assert trial.failed_chronos == {"fit/Ridge": 1}
    assert trial.parameters["Later"] == {"depth": 3}
    assert Ridge.fit is fit


def test_xgboost(logged):
    """`train` and the estimators are logged once, also with the callback given."""
    xgboost = needs("xgboost")
    from trialstream.integrations.xgboost import XGBoostCallback

    train = xgboost.train
    autolog(["xgboost"])
    data = xgboost.DMatrix(DATA, TARGETS)
    for callbacks in (None, [XGBoostCallback()]):
        xgboost.train({"nthread": 1}, data, 2, evals=[(data, "train")], callbacks=callbacks, verbose_eval=False)
    xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(DATA, TARGETS, eval_set=[(DATA, TARGETS)], verbose=False)
    autolog(disable=True)
    _, history = logged()

    assert history["train/rmse"].steps.tolist() == [0, 1, 0, 1]
    assert history["validation_0/rmse"].steps.tolist() == [0, 1]
    assert xgboost.train is train


def test_lightgbm(logged):
    """`train` and the estimators are logged."""
    lightgbm = needs("lightgbm")
    autolog(["lightgbm"])
    data = lightgbm.Dataset(DATA, TARGETS)
    lightgbm.train({"verbose": -1, "num_threads": 1}, data, 2, valid_sets=[data], valid_names=["train"])
    lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, n_jobs=1).fit(DATA, TARGETS, eval_X=DATA, eval_y=TARGETS)
    _, history = logged()

    assert {name: each.steps.tolist() for name, each in history.items()}["train/l2"] == [0, 1]
    assert any(name.startswith(("valid", "training")) for name in history)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras itself
def test_keras(logged):
    """`fit` is logged."""
    needs("jax")
    keras = needs("keras")
    autolog(["keras"])
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    model.fit(DATA, DATA[:, :1], epochs=2, verbose=0)
    autolog(disable=True)
    model.fit(DATA, DATA[:, :1], epochs=2, verbose=0)
    _, history = logged()

    assert history["loss"].steps.tolist() == [0, 1]


def test_without_a_trial_the_functions_run_as_they_are():
    """Nothing is added where there is nothing to log to."""
    xgboost = needs("xgboost")
    autolog(["xgboost"])

    assert ts.current() is None
    with pytest.raises(TypeError):
        xgboost.train()
