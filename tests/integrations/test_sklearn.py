"""scikit-learn's callbacks: parameters, durations and scores of fits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 is not installed")

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from trialstream.integrations.sklearn import SklearnCallback, SklearnScoringCallback

DATA = np.random.default_rng(0).normal(size=(80, 3))
TARGETS = (DATA[:, 0] > 0).astype(int)


def test_a_fit(logged):
    """A fit logs the parameters of its estimator and the durations of its tasks."""
    LogisticRegression(C=0.5).set_callbacks(SklearnCallback()).fit(DATA, TARGETS)
    trial, _ = logged()

    assert trial.parameters["LogisticRegression"]["C"] == 0.5
    assert {"LogisticRegression/fit", "LogisticRegression/lbfgs-iter"} <= set(trial.chronos)


def test_scores(logged):
    """The score of the estimator after each task is a row."""
    scoring = SklearnScoringCallback(lambda fitted, data, targets: {"accuracy": fitted.score(data, targets)})
    LogisticRegression().set_callbacks(scoring).fit(DATA, TARGETS)
    _, history = logged()
    found = history["LogisticRegression/accuracy"]

    assert len(found) >= 2
    assert found.values.max() > 0.9


def test_a_search(logged):
    """A search has the durations of its candidates, and goes on with copies of the callback."""
    search = GridSearchCV(LogisticRegression().set_callbacks(SklearnCallback()), {"C": [0.1, 1.0]}, cv=2)
    search.set_callbacks(SklearnCallback()).fit(DATA, TARGETS)
    trial, _ = logged()

    assert "GridSearchCV/fit" in trial.chronos
    assert trial.parameters["GridSearchCV"]["estimator"]["class"] == "LogisticRegression"
    assert not trial.open_chronos


def test_a_fit_that_fails(logged):
    """The error of a fit is the user's; no task stays open."""
    callback = SklearnCallback()
    with pytest.raises(ValueError, match="class"):
        LogisticRegression().set_callbacks(callback).fit(DATA, np.zeros(80))
    trial, _ = logged()

    assert not trial.open_chronos
    assert not callback._started
