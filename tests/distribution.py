"""Distribution of the tests over the workers of pytest-xdist: one file, or one folder with servers of its own, to one.

The files come in the order of their names (`--no-loadscope-reorder`), so those that need no servers and take seconds,
in `tests/property` and `tests/unit`, are last, and the workers end together.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

__all__ = ["pytest_xdist_make_scheduler"]

# To start what the tests of these folders share takes ten seconds or more of processor time.
TOGETHER = ("tests/browser/", "tests/integration/logins/", "tests/integration/secured/")


class _Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        folder = next((each for each in TOGETHER if nodeid.startswith(each)), None)
        return folder or str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Schedule by file and folder for `--dist loadfile`."""
    return _Scheduling(config, log) if config.getoption("dist") == "loadfile" else None
