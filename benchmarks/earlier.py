"""Benchmarks of an earlier commit, measured in turn with those of this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Row

__all__ = ["Earlier", "checkout"]

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("", "schemas", "producer", "consumer", "console")


@dataclass(frozen=True)
class Earlier:
    """The code of an earlier commit; it runs with the packages that are installed now.

    Attributes:
        name: The commit, as given.
        root: Where it is checked out.
    """

    name: str
    root: Path

    def beside(self, benchmark: str, rows: Iterable[Row], *, quick: bool) -> list[Row]:
        """Run a benchmark with the earlier code, and return the rows with its figures beside them.

        Args:
            benchmark: Name of the benchmark.
            rows: The rows of this commit.
            quick: Whether to run fewer repetitions of smaller loads.

        Returns:
            The rows. A row that the earlier code does not have, or could not measure, is marked as not measured.
        """
        path = os.pathsep.join(str(self.root / each) for each in _PACKAGES)
        command = [sys.executable, "-m", "benchmarks", benchmark, *(["--quick"] if quick else [])]
        result = self.root / "benchmarks" / "results" / f"{benchmark}.json"
        result.unlink(missing_ok=True)
        done = subprocess.run(  # noqa: S603 (our own command)
            command, cwd=self.root, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        if result.exists():
            found = {row["what"]: row["ours"] for row in json.loads(result.read_text())["rows"]}
        else:
            found = {}
            print(f"at {self.name}: {done.stderr.strip()}", file=sys.stderr)
        name = f"at {self.name}"
        return [replace(row, beside={name: found.get(row.what, "not measured"), **row.beside}) for row in rows]


@contextmanager
def checkout(commit: str) -> Iterator[Earlier]:
    """Check a commit out into a temporary folder, for as long as the block runs.

    Args:
        commit: Any name of it.

    Yields:
        Its code.

    Raises:
        SystemExit: There is no such commit.
    """
    with TemporaryDirectory(prefix="trialstream-earlier-") as folder:
        root = Path(folder) / "code"
        added = _git("worktree", "add", "--quiet", "--detach", str(root), commit)
        if added.returncode:
            sys.exit(f"--before: {added.stderr.strip()}")
        try:
            yield Earlier(commit, root)
        finally:
            _git("worktree", "remove", "--force", str(root))


def _git(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *args], cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607
