"""Fixtures of the integrations: one log with one consumer, which the environment names."""

from __future__ import annotations

import dataclasses
import os
import uuid

import pytest
import trialstream as ts
import trialstream.sync
from service_support import WarmConsumer


@pytest.fixture(scope="module")
def served(stack, tmp_path_factory):
    """A log that a consumer folds while the tests of a file run."""
    config = ts.Config(
        kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix=f"integrations-{uuid.uuid4().hex[:8]}", partitions=4
    )
    service = WarmConsumer(tmp_path_factory.mktemp("consumer"), config)
    service.start()
    yield config
    service.stop()


@pytest.fixture(scope="module", autouse=True)
def environment(served):
    """Set the environment variables of that log, and none of a launcher, for the tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("SLURM_", "OMPI_", "PMI_", "TORCHELASTIC_", "TRIALSTREAM_RUN", "TRIALSTREAM_HANDLE")):
                patch.delenv(name)
        for field in dataclasses.fields(served):
            if field.name != "spool_dir":  # of the tests
                patch.delenv(f"TRIALSTREAM_{field.name.upper()}", raising=False)
        for key in ("kafka", "mongo", "prefix"):
            patch.setenv(f"TRIALSTREAM_{key.upper()}", getattr(served, key))
        yield


@pytest.fixture
def name(request) -> str:
    """A name that is unique on that log."""
    return f"{request.node.originalname} {uuid.uuid4().hex[:8]}"


@pytest.fixture
def tracker(name):
    """The current tracker, which captures nothing."""
    with ts.track(name, capture=False) as t:
        yield t


@pytest.fixture
def logged(tracker):
    """Return the trial and its histories, once all that was logged so far is folded."""

    def read() -> tuple[ts.Trial, dict[str, ts.MetricHistory]]:
        assert tracker.commit("folded")
        assert tracker.health.errors == 0
        [trial] = tracker.protocol.fetch_trials({"name": tracker.trial.name})
        return trial, tracker.protocol.fetch_histories([trial])[trial.uid]

    return read
