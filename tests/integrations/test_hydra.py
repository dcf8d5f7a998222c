"""Hydra: each job is a trial."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import trialstream as ts
import trialstream.sync

pytest.importorskip("hydra", reason="hydra-core is not installed: make test-integrations")

SCRIPT = """
    import hydra
    import trialstream as ts

    @hydra.main(version_base=None, config_path=".", config_name="config")
    def main(config):
        ts.current().log({"loss": 1 / config.lr})

    main()
"""
CONFIG = """
    lr: 0.5
    model: {{depth: 2, width: "${{lr}}"}}
    hydra:
      callbacks:
        trialstream:
          _target_: trialstream.integrations.hydra.HydraCallback
          name: {name}
          project: p {name}
          capture: false
"""


@pytest.fixture
def run(name, tmp_path):
    """Run the script with some arguments, and return its trials in their order."""
    (tmp_path / "main.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "config.yaml").write_text(textwrap.dedent(CONFIG.format(name=name)))

    def run(*arguments: str) -> list[ts.Trial]:
        ended = subprocess.run(
            [sys.executable, "main.py", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert "Callback HydraCallback" not in ended.stderr, ended.stderr
        with trialstream.sync.connect() as protocol:
            return protocol.fetch_trials({"name": name}, sort="created", latest=True)

    return run


def test_a_job(run, name):
    """A job is a trial with its configuration, and the current one of its code."""
    [trial] = run("model.depth=3")

    assert trial.status is ts.Status.Completed
    assert trial.parameters == {"lr": 0.5, "model": {"depth": 3, "width": 0.5}}
    assert trial.metadata["hydra"]["overrides"] == ["model.depth=3"]
    assert (trial.project_id, trial.metrics["loss"].last) == (f"p {name}", 2.0)


def test_a_multirun_with_a_failure(run):
    """The jobs of a multirun are trials in one group; one that fails has its exception."""
    trials = run("--multirun", "lr=0.25,0")

    assert [each.status for each in trials] == [ts.Status.Completed, ts.Status.Exception]
    assert trials[1].errors[0].type == "ZeroDivisionError"
    assert trials[0].group_id is not None
    assert trials[0].group_id == trials[1].group_id
