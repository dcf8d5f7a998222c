"""The pure parts of several workers: restarts, the lines of a child's output, and the shares of a replay."""

from __future__ import annotations

import anyio
import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from trialstream.config import Config
from trialstream_console.cli.supervisor import Restarts
from trialstream_consumer.processes import exit_reason, lines
from trialstream_consumer.replay.sharing import Share, divide
from trialstream_schemas.storage.collections import Namespace

REGISTRY = TopicPartition("t.registry", 0)


def trials(number):
    """Return a partition of the trials topic."""
    return TopicPartition("t.trials", number)


def test_a_worker_that_dies_at_once_is_restarted_later_each_time_and_then_not_at_all():
    """A worker that ran for a minute is restarted at once again."""
    restarts = Restarts()

    assert [restarts.delay(1.0) for _ in range(4)] == [0.0, 1.0, 2.0, 4.0]
    assert restarts.delay(60.0) == 0.0
    assert [restarts.delay(59.0) for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, None]


class Parts:
    """A stream of parts of an output."""

    def __init__(self, parts):
        self._parts = iter(parts)

    def __aiter__(self):
        return self

    async def __anext__(self):
        for part in self._parts:
            return part
        raise StopAsyncIteration


@given(st.lists(st.binary(min_size=1).map(lambda each: each.replace(b"x", b"\n"))))
def test_lines_are_whole_however_the_output_is_cut(parts):
    """The lines are those of the whole output; an end without a line feed is the last line."""

    async def read():
        return [each async for each in lines(Parts(parts))]

    expected = b"".join(parts).split(b"\n")
    if not expected[-1]:
        expected.pop()

    assert anyio.run(read) == expected


@pytest.mark.parametrize(
    ("code", "text"), [(3, "exit code 3"), (-9, "killed by SIGKILL"), (-77, "killed by signal 77")]
)
def test_an_exit_code_is_described(code, text):
    """A negative code is a signal."""
    assert exit_reason(code) == text


@given(
    st.dictionaries(st.integers(0, 15).map(trials), st.integers(-3, 10**6)),
    st.integers(0, 1000),
    st.integers(1, 20),
)
def test_shares_have_every_partition_that_has_records_once(left, registry, shares):
    """The first share has the registry; the largest exceeds the smallest by its largest partition at most."""
    made = divide(left | {REGISTRY: registry}, shares, REGISTRY)
    found = [each for share in made for each in share]
    sizes = [sum(left.get(each, registry) for each in share) for share in made]

    assert made[0][0] == REGISTRY
    assert len(made) <= shares
    assert all(made)
    assert sorted(found) == sorted([REGISTRY, *(each for each, count in left.items() if count > 0)])
    if len(made) == shares:
        assert max(sizes) - min(sizes) <= max([registry, *left.values()])


def test_a_share_is_one_line_that_is_read_back():
    """Settings with credentials, and the ends, survive."""
    config = Config(kafka_sasl_username="ada", kafka_sasl_password="é\n", spool_dir="x")
    share = Share(config, Namespace("p", "~1"), 4, {REGISTRY: 3, trials(2): 7})
    text = share.to_json()

    assert "\n" not in text
    assert Share.from_json(text) == share
