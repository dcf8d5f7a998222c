"""`pip install trialstream` without extras, simulated: the command in a process that can import nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
# Like a module that is not installed: find_spec of a finder that comes first raises what the import system would.
_COMMAND = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked = set(sys.argv.pop().split())
sys.meta_path.insert(0, Blocked())
from trialstream_console.cli import main
main()
"""


@cache
def modules_of_extras() -> set[str]:
    """Return the installed top-level modules that no dependency of the plain install brings, directly or indirectly."""
    plain = {"trialstream"}
    missing = list(map(Requirement, _PYPROJECT["project"]["dependencies"]))
    while missing:
        each = missing.pop()
        if (name := canonicalize_name(each.name)) not in plain:
            plain.add(name)
            missing += [needed for needed in _requirements(name) if _applies(needed, each.extras)]
    return {
        module
        for module, names in packages_distributions().items()
        if not plain & {canonicalize_name(name) for name in names}
    }


def _requirements(name: str) -> list[Requirement]:
    try:
        return list(map(Requirement, requires(name) or []))
    except PackageNotFoundError:  # not needed by this version of Python, or not on this system
        return []


def _applies(needed: Requirement, extras: set[str]) -> bool:
    return needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def plain_trialstream(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `trialstream` as after a plain install.

    Args:
        *arguments: Arguments of the command.
        environment: The whole environment; None for that of this process.
    """
    return subprocess.run(
        [sys.executable, "-c", _COMMAND, *map(str, arguments), " ".join(modules_of_extras())],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
