"""Arguments of `watch`: what is wrong is refused at the call, before anything is opened."""

from __future__ import annotations

import copy
import math

import pytest
import trialstream as ts
import trialstream.sync


@pytest.mark.parametrize("watch", [ts.watch, ts.sync.watch], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"query": {"statu": 1}}, ts.QueryError, "statu"),
        ({"query": []}, ts.QueryError, "query: expected a dict"),
        ({"fields": ["x"]}, ts.QueryError, "x"),
        (
            {"since": "yesterday"},
            ts.InvalidValue,
            "since: expected None, 'now' or the cursor of a watch, got",
        ),
        ({"since": 3}, ts.InvalidValue, "since: expected None"),
        ({"interval": -1}, ts.InvalidValue, "interval: expected a number of seconds from 0 on, got -1"),
        ({"interval": math.nan}, ts.InvalidValue, "interval"),
        ({"interval": True}, ts.InvalidValue, "interval"),
        ({"interval": "1s"}, ts.InvalidValue, "interval"),
        ({"kafka": "x"}, ts.ConfigError, "kafka"),
    ],
    ids=lambda each: str(each)[:40] if isinstance(each, dict) else "",
)
def test_wrong_arguments(watch, arguments, error, message):
    """The error names the argument."""
    with pytest.raises(error) as caught:
        watch(**arguments, url="memory:arguments")
    assert message in str(caught.value)


async def test_a_cursor_of_a_store_in_memory_that_is_none():
    """A position beyond the end of the log, or no number, is refused when the watch is opened."""
    url = "memory:cursors"
    async with ts.watch(since="now", url=url) as watch:
        store = watch.cursor.rpartition("/")[0]
    for text in ("-1", "9", "x", "", "²"):
        with pytest.raises(ts.InvalidValue, match="since"):
            async with ts.watch(since=f"{store}/{text}", url=url):
                pass


async def test_a_watch_is_no_value():
    """It cannot be copied, and one that was closed raises `ProtocolClosed`."""
    watch = ts.watch(url="memory:")
    with pytest.raises(TypeError, match="Watch"):
        copy.copy(watch)
    async with watch:
        pass
    with pytest.raises(ts.ProtocolClosed):
        await anext(aiter(watch))
