"""The pytest plugin: fixtures for tests of code that logs.

| fixture | what it is |
|---|---|
| `trialstream` | an open protocol for code that is not async, with an empty log in memory |
| `trialstream_async` | the same for async code, whichever plugin runs it |
| `trialstream_stack` | the settings of a real Kafka, MongoDB and consumer, which are started once for all tests |

pytest imports this module at its start, so it imports little: what a fixture needs is imported when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trialstream.config import Config
    from trialstream.kafka.protocol import LoggingProtocol
    from trialstream.sync import SyncProtocol

__all__ = ["trialstream", "trialstream_async", "trialstream_stack"]


@pytest.fixture
def trialstream() -> Iterator[SyncProtocol]:
    """An open protocol for code that is not async; its log in memory is empty at the start of each test."""
    from trialstream.sync import connect  # noqa: PLC0415 (see above)

    with connect("memory:") as protocol:
        yield protocol


@pytest.fixture
def trialstream_async() -> Iterator[LoggingProtocol]:
    """An open protocol for async code; its log in memory is empty at the start of each test."""
    from trialstream.connect import connect  # noqa: PLC0415 (see above)

    protocol = connect("memory:")
    protocol.lifecycle.open_blocking()  # so the fixture needs no plugin that runs coroutines
    try:
        yield protocol
    finally:
        protocol.lifecycle.close_blocking()


@pytest.fixture(scope="session")
def trialstream_stack() -> Iterator[Config]:
    """Settings of real servers on this machine, without Docker; needs `pip install 'trialstream[local]'`.

    `ts.connect(kafka=config.kafka, mongo=config.mongo, prefix=config.prefix)` connects to them.
    """
    # By name, since the packages import each other in one direction, and this one is below the console.
    local = import_module("trialstream_console.local")
    with local.LocalStack() as stack:
        yield stack.config
