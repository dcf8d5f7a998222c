"""The look for the identity of a log in a registry that looks empty."""

from __future__ import annotations

import pytest
import trialstream as ts
from trialstream.event_log import identity
from trialstream_schemas.wire.events import LogCreated


@pytest.fixture
def looks(monkeypatch):
    """Results of the looks into the registry, in their order; the last one repeats."""
    found = []

    async def find(*_):
        return found.pop(0) if len(found) > 1 else found[0]

    monkeypatch.setattr(identity, "find_identity", find)
    return found


async def test_a_registry_that_looks_empty_for_a_while(looks):
    """A broker that was killed restores the records of the registry after it has begun to answer."""
    looks += [None, None, None, LogCreated(time=1, log="a", partitions=4)]

    await identity.check_identity(ts.Config(), None, "a")
    assert len(looks) == 1


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param([None], "is empty, but this process has logged to log a", id="empty"),
        pytest.param([None, LogCreated(time=1, log="b", partitions=4)], "is log b, but", id="another log"),
    ],
)
async def test_a_registry_of_recreated_topics(looks, found, message):
    """A registry that stays empty, or has another identity, belongs to other topics."""
    looks += found

    with pytest.raises(ts.LogMismatch, match=message):
        await identity.check_identity(ts.Config(), None, "a", patience=0.2)
