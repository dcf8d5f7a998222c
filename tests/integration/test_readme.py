"""Test of the README: its example runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def example() -> str:
    """The first Python block after the mark `<!-- example -->`."""
    found = re.search(r"<!-- example -->\s*```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, "README.md has no example"
    return found[1]


def test_the_example_is_short(example):
    """The example has about 20 lines of code, so that a newcomer reads it quickly."""
    lines = [line for line in example.splitlines() if line.strip()]

    assert len(lines) <= 22


@pytest.mark.usefixtures("environment")
def test_the_example_runs(example, tmp_path):
    """The example runs as a script on real servers; a second run is a new revision."""
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    for _ in range(2):
        command = [sys.executable, "-W", "error", script]
        ran = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)

        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout
