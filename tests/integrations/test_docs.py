"""The examples of docs/integrations.md run as they stand, where their frameworks are installed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "integrations.md"
EXAMPLES = re.findall(r"^## (.*?)\n\n```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("section", "code"), EXAMPLES, ids=[section for section, _ in EXAMPLES])
def test_an_example(section, code, tmp_path):
    """The example ends without an error and without a warning of trialstream."""
    used = {name for name in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE) if name != "trialstream"}
    used |= {name for name in re.findall(r"trialstream\.integrations\.(\w+)", code) if name == "transformers"}
    if missing := sorted(name for name in used if importlib.util.find_spec(name) is None):
        pytest.skip(f"{', '.join(missing)} is not installed: make test-integrations")
    script = tmp_path / "example.py"
    script.write_text(code, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert "trialstream" not in ran.stderr
