"""A watch: in any order of changes, looks and restarts, its view becomes what `fetch_trials` returns."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import trialstream as ts
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

STATUSES = (ts.Status.Running, ts.Status.Completed, ts.Status.Broken)
QUERY = {"status": "Running", "tags.hidden": None}
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.integers(0, 2)),
        st.tuples(st.just("status"), st.integers(0, 2), st.sampled_from(STATUSES)),
        st.tuples(st.just("tag"), st.integers(0, 2), st.sampled_from(["hidden", "shown"])),
        st.tuples(st.just("look")),
        st.tuples(st.just("restart")),
    ),
    max_size=12,
)


async def drained(watch, view):
    """Apply all changes that a watch has to a view."""
    with contextlib.suppress(TimeoutError):
        async with contextlib.aclosing(aiter(watch)) as changes:
            while True:
                async with asyncio.timeout(0.1):
                    change = await anext(changes)
                view[change.uid] = change.matches
                assert change.trial is not None


async def check(operations):
    """Run operations, and compare the view at the end."""
    url = f"memory:{uuid.uuid4().hex}"
    trials: dict[int, ts.Trial] = {}
    view: dict[str, bool] = {}
    async with contextlib.AsyncExitStack() as stack:
        protocol = await stack.enter_async_context(ts.connect(url))
        watch = await stack.enter_async_context(ts.watch(QUERY, url=url, interval=0))
        for name, *arguments in operations:
            if name == "look":
                await drained(watch, view)
            elif name == "restart":
                cursor = watch.cursor
                if cursor is None:  # begins again
                    view.clear()
                watch = await stack.enter_async_context(ts.watch(QUERY, url=url, interval=0, since=cursor))
            elif name == "new" and arguments[0] not in trials:
                trials[arguments[0]] = await protocol.new_trial(ts.Trial(name=f"t{arguments[0]}"))
            elif name == "status" and arguments[0] in trials:
                await protocol.set_trial_status(trials[arguments[0]], arguments[1])
            elif name == "tag" and arguments[0] in trials:
                await protocol.add_trial_tags(trials[arguments[0]], {arguments[1]: True})
        await protocol.commit("folded")
        expected = {each.uid for each in await protocol.fetch_trials(QUERY)}
        async with asyncio.timeout(20):
            while {uid for uid, matches in view.items() if matches} != expected:
                await drained(watch, view)
        await drained(watch, view)
    assert {uid for uid, matches in view.items() if matches} == expected


@settings(max_examples=examples(25), deadline=None)
@given(OPERATIONS)
def test_the_view_of_a_watch_is_what_matches(operations):
    """Also after restarts with a cursor, or without one while nothing was returned yet."""
    asyncio.run(check(operations))
