"""Keras 3 over JAX: metrics of epochs and batches."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="keras is not installed: make test-integrations")
pytest.importorskip("jax", reason="jax is not installed: make test-integrations")

from trialstream.integrations.keras import KerasCallback  # noqa: E402

# Of Keras itself, with the latest numpy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DATA = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")


@pytest.fixture
def model():
    """A small compiled model."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    return model


def test_epochs(model, logged):
    """Each epoch is a row with its validation, and a chrono; the parameters are those of the trial."""
    fit = model.fit(
        DATA, DATA[:, :1], epochs=3, validation_data=(DATA, DATA[:, :1]), verbose=0, callbacks=[KerasCallback()]
    )
    trial, history = logged()

    assert history["loss"].steps.tolist() == [0, 1, 2]
    assert history["loss"].values.tolist() == fit.history["loss"]
    assert history["val_loss"].values.tolist() == fit.history["val_loss"]
    assert trial.parameters["keras"]["epochs"] == 3
    assert trial.parameters["keras"]["optimizer"]["learning_rate"] == pytest.approx(0.1)
    assert trial.chronos["epoch"].count == 2  # without the first


def test_batches(model, logged):
    """Every second batch is a row, if that is wanted; a copy of the callback is the callback."""
    callback = KerasCallback(batches=2)
    model.fit(DATA, DATA[:, :1], batch_size=8, epochs=2, verbose=0, callbacks=[copy.deepcopy(callback)])
    _, history = logged()

    assert history["batch/loss"].steps.tolist() == [2, 4, 6, 8]
