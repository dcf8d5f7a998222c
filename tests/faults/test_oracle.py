"""Tests of the oracle: it detects every error of the log and the documents that the fault suite must find."""

from __future__ import annotations

import struct
from dataclasses import replace

import bson
import pytest
from journal import call
from oracle import check, check_documents, check_log, read_log, read_view
from service_support import caught_up, until
from writers import load


@pytest.fixture
async def run(config, consumer):
    """A short run: its log, journals and documents."""
    consumer(config)
    async with load(config, writers=2, claims=3) as running:
        await running.grow(150)
        await until(lambda: sum(each.answers.total() for each in running.journals) == 6 + 3)
    await caught_up(config)
    return await read_log(config), running.journals, read_view(config), await check(config, running.journals)


async def test_errors_in_log_and_documents_are_detected(run):
    """The oracle detects lost, doubled, swapped and foreign events, lost acknowledged calls, and changed documents."""
    log, journals, _, figures = run

    assert figures.calls == sum(len(each.calls) for each in journals)
    assert (figures.duplicated, figures.dead, figures.lost) == (0, 0, 0)
    assert sum(each.answers.total() for each in journals) == 6 + 3

    at = next(i for i, each in enumerate(log) if getattr(each.event, "seq", 0) == 2)
    event = log[at].event
    seq_3 = next(i for i, e in enumerate(log) if getattr(e.event, "seq", 0) == 3 and e.event.writer == event.writer)
    swapped = [*log]
    swapped[at], swapped[seq_3] = log[seq_3], log[at]
    wrong_logs = {
        "follows number 1": [*log[:at], *log[at + 1 :]],
        "has the number of another event": [*log, log[at]._replace(event=replace(event, time=event.time + 1))],
        "follows number": swapped,
        "has no journal": [*log, log[at]._replace(event=replace(event, writer="stranger", seq=1))],
    }
    for reason, wrong in wrong_logs.items():
        with pytest.raises(AssertionError, match=reason):
            check_log(wrong, journals)
    check_log([*log, log[at]], journals)  # a resend is no error

    busy = max(journals, key=lambda each: len(each.calls))
    others = [each for each in journals if each is not busy]
    trial = busy.calls[0].trial
    missing = replace(busy, path=None, calls=[*busy.calls, call(trial, "start")], acked=len(busy.calls) + 1)
    with pytest.raises(AssertionError, match="are in the log"):
        check_log(log, [*others, missing])
    check_log(log, [*others, replace(missing, acked=len(busy.calls))])  # unacknowledged calls may be missing
    changed = [busy.calls[0]._replace(content=busy.calls[0].content + " "), *busy.calls[1:]]
    with pytest.raises(AssertionError, match="the log has"):
        check_log(log, [*others, replace(busy, path=None, calls=changed)])


async def test_any_changed_document_is_detected(run):
    """The oracle detects a change of any field of any kind of document, missing documents, and a wrong checkpoint."""
    log, _, view, _ = run
    check_documents(log, view)

    for kind in ("trials", "series", "outcomes"):
        uid, raw = next(iter(view.documents[kind].items()))
        document = bson.decode(raw)
        for key in document.keys() - {"_id", "size"}:
            changed = {**document, key: "changed" if key != "rows" else document[key] + 1}
            others = {**view.documents[kind], uid: bson.encode(changed)}
            # Documents that cannot be read are detected too.
            with pytest.raises((AssertionError, KeyError, TypeError, ValueError, AttributeError, struct.error)):
                check_documents(log, replace(view, documents={**view.documents, kind: others}))
        fewer = {each: raw for each, raw in view.documents[kind].items() if each != uid}
        with pytest.raises(AssertionError):
            check_documents(log, replace(view, documents={**view.documents, kind: fewer}))
    behind = {key: offset - 1 if offset else 0 for key, offset in view.checkpoints.items()}
    with pytest.raises(AssertionError):
        check_documents(log, replace(view, checkpoints=behind))
    with pytest.raises(AssertionError):
        check_documents(log, replace(view, dead=[(log[-1].topic, log[-1].partition, log[-1].offset)]))
