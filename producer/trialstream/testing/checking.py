"""`check_protocol`: runs the contract of the Protocol against any protocol."""

from __future__ import annotations

from collections.abc import Callable

from trialstream.protocol import Protocol

__all__ = ["check_protocol"]


async def check_protocol(factory: Callable[[], Protocol]) -> None:
    """Check that a protocol keeps the contract: call every method, and compare the answers with what they must be.

    The checks create projects, groups and trials with random names and remove nothing. They take a second in memory,
    and some seconds with servers.

        async def test_my_protocol():
            await check_protocol(lambda: MyProtocol(...))

    Args:
        factory: Returns a new protocol that is not entered yet; all its protocols log to the same place. It is called
            several times.

    Raises:
        AssertionError: The protocol does not keep the contract; the message lists every check that failed, and how.
    """
    from trialstream.testing.checks import failures_of  # noqa: PLC0415 (heavy)

    if failures := await failures_of(factory):
        checks = "\n".join(f"- {each}" for each in failures)
        raise AssertionError(f"the protocol does not keep {len(failures)} parts of the contract:\n{checks}")
