"""Fixtures on secured servers: encryption, logins, and one user for each role with the least rights of that role."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from trialstream_console.local import LocalStack


@pytest.fixture(scope="package")
def secured() -> Iterator[LocalStack]:
    """Secured servers in a temporary folder, as `trialstream up --secure` starts them, with a consumer.

    They end with the tests of this folder.
    """
    with LocalStack(secure=True, partitions=2) as stack:
        yield stack
        # The tests took its rights away and granted them again.
        assert stack.consumer.running, stack.consumer.failure
