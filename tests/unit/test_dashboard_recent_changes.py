"""The changes from which clients of the dashboard's live feed go on."""

from __future__ import annotations

import base64
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from trialstream_console.dashboard import recent_changes
from trialstream_console.dashboard.recent_changes import Changed, RecentChanges, by_filter

ALL = (None, None)
LOOK = 256  # trials of a look of a watch
NAMES = (None, "a", "b")


def cursor(time, projection="live"):
    """The cursor of a watch after a change."""
    return f"{projection}/{base64.urlsafe_b64encode(time.to_bytes(4)).decode().rstrip('=')}"


def changed(number, project=None, group=None):
    """A trial that has changed."""
    return Changed(f"uid {number}", project, group, is_gone=False)


def fits(each, project, group):
    """Whether a filter takes a trial."""
    return each.is_gone or (project in (None, each.project) and group in (None, each.group))


trials = st.builds(changed, st.integers(0, 9), st.sampled_from(NAMES), st.sampled_from(NAMES))
gone = st.builds(lambda number: Changed(f"uid {number}", None, None, is_gone=True), st.integers(0, 9))


@settings(max_examples=examples(300))
@given(
    looks=st.lists(st.tuples(st.lists(trials | gone, min_size=1, max_size=4), st.booleans()), max_size=12),
    bounds=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    since=st.integers(0, 60),
    wanted=st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)),
)
def test_no_change_is_missed(looks, bounds, since, wanted):
    """A client gets every trial whose change is after its cursor, whichever process has made that, or loads anew.

    Changes are numbered. A cursor stays where it is while changes before its next place are still to come.
    """
    recent, time, place, shown = RecentChanges(), 10, 10, []
    recent.restart(cursor(10))
    before = recent_changes._MAX_LOOKS, recent_changes._MAX_CHANGED
    recent_changes._MAX_LOOKS, recent_changes._MAX_CHANGED = bounds
    try:
        for trials_of_look, is_drained in looks:
            shown += [(time + i + 1, each) for i, each in enumerate(trials_of_look)]
            time += len(trials_of_look)
            place = time if is_drained else place
            recent.add(cursor(place), trials_of_look)
    finally:
        recent_changes._MAX_LOOKS, recent_changes._MAX_CHANGED = before
    found = recent.after(cursor(since), wanted, 100)

    latest = {each.uid: (at, each) for at, each in shown}
    missed = [uid for uid, (at, each) in latest.items() if at > since and fits(each, *wanted)]
    assert found is None or set(found) >= set(missed)
    assert found is None or len(set(found)) == len(found)
    if since < 10:
        assert found is None
    if place == time <= since and len(latest) <= bounds[1]:
        assert found == []
    assert len(recent._changed) <= bounds[1]
    assert len(recent._looks) == len(recent._tokens) <= max(1, bounds[0])


def test_a_hundred_thousand_trials_that_change():
    """As many are known as a client is looked up in quickly; one that goes on from before them loads anew."""
    recent = RecentChanges()
    recent.restart(cursor(0))
    for look in range(400):
        recent.add(cursor(look + 1), [changed(LOOK * look + i, "b" if i else "a") for i in range(LOOK)])

    assert len(recent._changed) == 20_000
    assert recent.after(cursor(0), ALL, 201) is None
    assert recent.after(cursor(320), ALL, 201) is None
    assert len(recent.after(cursor(330), ALL, 201)) == 201
    assert recent.after(cursor(398), ("a", None), 201) == [f"uid {LOOK * look}" for look in (399, 398)]
    assert recent.after(cursor(400), ALL, 201) == []
    assert recent.after(cursor(500), ALL, 201) == []


def test_changes_of_one_cursor():
    """While a watch has more changes than it shows at once, its looks end at one cursor, before all of them."""
    recent = RecentChanges()
    recent.restart(cursor(0))
    for number in range(3):
        recent.add(cursor(0), [changed(number)])
    recent.add(cursor(9), [changed(3)])

    assert recent.after(cursor(0), ALL, 100) == [f"uid {number}" for number in (3, 2, 1, 0)]
    assert recent.after(cursor(9), ALL, 100) == []


def test_other_cursors():
    """After a cursor of another projection, or no cursor, changes are not known; nor are they before a watch begins."""
    recent = RecentChanges()
    assert recent.after(cursor(1), ALL, 100) is None
    recent.restart(cursor(0))
    recent.add(cursor(1), [changed(1)])

    for text in (cursor(1, "other"), "nobody's/cursor", "live/", "", "/", "live/é"):
        assert recent.after(text, ALL, 100) is None
    recent.restart("")
    assert recent.after(cursor(1), ALL, 100) is None


@given(st.lists(trials | gone, max_size=8), st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES))))
def test_filters(some, filters):
    """A filter takes the trials of its project and its group, and those that are gone."""
    found = by_filter(some, filters)

    for project, group in product(NAMES, NAMES):
        taken = [each.uid for each in some if fits(each, project, group)]
        assert found.get((project, group), []) == (taken if (project, group) in filters else [])
