"""The testing kit on real servers."""

from __future__ import annotations

import pytest
from contract import connected
from trialstream.testing import check_protocol

pytest_plugins = ["pytester"]


async def test_the_servers_keep_the_contract(served):
    """The check that the Protocol in memory passes is passed by Kafka and MongoDB as well."""
    await check_protocol(lambda: connected(served))


@pytest.mark.slow
def test_the_fixture_of_servers(pytester):
    """`trialstream_stack` starts servers with a consumer, once for all tests, and stops them at the end."""
    pytester.makepyfile(
        """
        import trialstream.sync
        import trialstream as ts

        def open_on(config):
            return trialstream.sync.connect(kafka=config.kafka, mongo=config.mongo, prefix=config.prefix)

        def test_writing(trialstream_stack):
            with open_on(trialstream_stack) as protocol:
                protocol.new_trial(ts.Trial(name="t"))

        def test_reading(trialstream_stack):
            with open_on(trialstream_stack) as protocol:
                assert [each.name for each in protocol.fetch_trials()] == ["t"]
        """
    )
    pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider").assert_outcomes(passed=2)
