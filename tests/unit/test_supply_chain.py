"""The pinned packages, and the SBOM of the wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> dict[str, list[tuple[str, str, list[str]]]]:
    """Return the pins of a file: package → version, marker and hashes of each of its lines."""
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / name).read_text())
    found: dict[str, list[tuple[str, str, list[str]]]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        pin, *hashes = line.split(" --hash=")
        package, version, marker = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; (.*))?", pin).groups()
        found.setdefault(package, []).append((version, marker or "", hashes))
    return found


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group and of those that it includes."""
    return [
        text for each in GROUPS[name] for text in (group(each["include-group"]) if isinstance(each, dict) else [each])
    ]


WANTED = {
    "constraints.txt": [
        *PROJECT["dependencies"],
        *EXTRAS["local"],
        *EXTRAS["capture"],
        *EXTRAS["dashboard"],
        *group("dev"),
    ],
    "constraints-image.txt": [*PROJECT["dependencies"], *group("build")],
    "constraints-integrations.txt": group("integrations"),
    "constraints-peers.txt": group("peers"),
    "constraints-torch.txt": group("torch"),
}


@pytest.mark.parametrize("name", WANTED)
def test_every_requirement_is_pinned(name):
    """Each file has a version of every requirement of pyproject.toml, which satisfies it: else `make constraints`."""
    found = pins(name)
    for each in map(Requirement, WANTED[name]):
        versions = [version for version, _, _ in found[canonicalize_name(each.name)]]
        assert all(each.specifier.contains(version, prereleases=True) for version in versions), each


@pytest.mark.parametrize("name", WANTED)
def test_every_pin_has_hashes(name):
    """Each pin has a SHA-256 of at least one file, and nothing else than SHA-256."""
    for package, lines in pins(name).items():
        for _, _, hashes in lines:
            assert hashes, package
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), package


def test_the_files_agree():
    """A package that is pinned for all is pinned to the same version and files in the other files too."""
    common = pins("constraints.txt")
    for name in WANTED:
        for package, lines in pins(name).items():
            wanted = {(version, *hashes) for version, _, hashes in common.get(package, lines)}
            assert {(version, *hashes) for version, _, hashes in lines} == wanted, f"{package} in {name}"


def test_the_build_needs_nothing_else():
    """The packages that build the project are pinned: isolation, which would fetch others, is off."""
    assert set(PYPROJECT["build-system"]["requires"]) <= set(GROUPS["build"])


def test_all_installs_check_hashes():
    """Each line of the Makefile and the Dockerfile that installs packages checks hashes, but `make constraints`."""
    variables = dict(re.findall(r"^(INSTALL|PINNED) *:= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    makefile, _, constraints = (ROOT / "Makefile").read_text().partition("\nconstraints:\n")
    lines = [
        line.replace("$(INSTALL)", variables["INSTALL"]).replace("$(PINNED)", variables["PINNED"])
        for line in makefile.splitlines()
        if line.startswith("\t")
    ]
    dockerfile = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines += [part for line in dockerfile.splitlines() if line.startswith("RUN") for part in line.split("&&")]
    installs = [line for line in lines if "pip install" in line]

    assert len(installs) == 7
    assert "pip install" in constraints
    for line in installs:
        assert "--no-deps" in line
        of_project = re.search(r" (-e )?\.\s*$", line) is not None
        assert ("--no-build-isolation" if of_project else "--require-hashes") in line


def test_the_sbom_lists_what_the_wheel_requires(tmp_path):
    """The SBOM has each direct requirement with the installed version, those of them in turn, and no extra."""
    pytest.importorskip("cyclonedx")
    target = tmp_path / "dist" / "sbom.json"
    subprocess.run([sys.executable, ROOT / "release" / "sbom.py", target], check=True, timeout=60)

    found = json.loads(target.read_text())
    versions = {canonicalize_name(each["name"]): each["version"] for each in found["components"]}
    direct = {canonicalize_name(Requirement(each).name) for each in PROJECT["dependencies"]}
    assert (found["bomFormat"], found["metadata"]["component"]["name"]) == ("CycloneDX", "trialstream")
    assert direct < set(versions)
    assert {"pymongo", "dnspython", "idna"} < set(versions)
    assert all(metadata.version(name) == version for name, version in versions.items())
    assert not set(versions) & {canonicalize_name(Requirement(each).name) for each in EXTRAS["local"]}
    root = found["metadata"]["component"]["bom-ref"]
    of_root = next(each["dependsOn"] for each in found["dependencies"] if each["ref"] == root)
    assert {each.partition("/")[2].partition("@")[0] for each in of_root} == direct
    assert {each["ref"] for each in found["dependencies"]} == {each["bom-ref"] for each in found["components"]} | {root}
