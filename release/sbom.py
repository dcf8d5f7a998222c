"""The SBOM of the wheel: the packages that it requires without extras, as CycloneDX JSON.

python release/sbom.py FILE: the versions are those of this environment, which `make install` pins.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PROJECT = "trialstream"


def sbom() -> str:
    """Return the SBOM as JSON: the project, its direct and indirect requirements, and what requires what."""
    bom = Bom()
    root = _component(_PROJECT, ComponentType.APPLICATION)
    bom.metadata.component = root
    found = {_PROJECT: root}
    waiting = [(_PROJECT, frozenset[str]())]
    done = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        needed = {(canonicalize_name(each.name), frozenset(each.extras)) for each in _requirements(name, extras)}
        for each, _ in needed:
            found.setdefault(each, _component(each, ComponentType.LIBRARY))
        bom.register_dependency(found[name], [found[each] for each, _ in sorted(needed)])
        waiting += needed - done
        done |= needed
    bom.components.update(component for component in found.values() if component is not root)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _component(name: str, kind: ComponentType) -> Component:
    about = metadata.metadata(name)
    url = PackageURL("pypi", name=canonicalize_name(name), version=about["Version"])
    return Component(
        type=kind,
        name=about["Name"],
        version=about["Version"],
        description=about.get("Summary"),
        licenses=[found] if (found := _license(about)) else [],
        purl=url,
        bom_ref=str(url),
    )


def _license(about: metadata.PackageMetadata) -> License | None:
    """Return the licence of a package: an SPDX expression, or the name that its classifiers have."""
    if text := about.get("License-Expression"):
        return LicenseFactory().make_from_string(text)
    classifiers = about.get_all("Classifier") or []
    names = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")]
    return LicenseFactory().make_with_name(" and ".join(names)) if names else None


def _requirements(name: str, extras: Iterable[str]) -> list[Requirement]:
    needed = map(Requirement, metadata.requires(name) or [])
    environments = [{"extra": each} for each in ("", *extras)]
    return [each for each in needed if each.marker is None or any(map(each.marker.evaluate, environments))]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{sbom()}\n")
