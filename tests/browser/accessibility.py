"""The check of a page's accessibility by axe-core."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

_AXE = (Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js").read_text


def findings(page: Page) -> list[str]:
    """Return the serious and critical findings of axe-core, each with the elements that it concerns."""
    page.evaluate(_AXE())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes'][:4]]}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]
