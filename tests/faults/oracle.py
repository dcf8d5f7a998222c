"""The oracle: plain Python that derives the expected log and documents from the journals of the writers.

- `check_log`: every acknowledged call is in the log once, with its values, in its writer's order, without a gap; and
  the log has no events that are not in a journal. Events that Kafka refused fill the gaps: each is missing in the log.
- `check_documents`: the documents and dead letters equal, as a whole, those that the plain model
  (tests/property/model.py) makes of the log up to the checkpoints. The check is valid at any moment, and finds a
  checkpoint that is ahead of its documents or behind them.
- `check`: both, once everything is folded.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import anyio
import bson
from aiokafka.partitioner import murmur2
from anyio.to_thread import run_sync
from bson.raw_bson import RawBSONDocument
from journal import Call, Journal, calls_of
from model import comparable, expected, meaning, place, reading
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from service_support import caught_up, collections, live, records_of
from trialstream.config import Config
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model import history as series
from trialstream_schemas.model.outline import outline_documents
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.events import Event, LogCreated, ProjectCreated, SubjectEvent, TrialCreated, TrialEvent

KINDS = ("trials", "groups", "projects", "series", "outlines", "outcomes")
# All documents but the copies of outcomes, which the log does not determine.
OWN = {"copy_of": {"$exists": False}}
_SHOWN = 5


class Record(NamedTuple):
    """A record of the log; the event is None if the bytes hold none, or one that belongs elsewhere."""

    topic: str
    partition: int
    offset: int
    event: Event | None


@dataclass(frozen=True)
class View:
    """The projection at one moment: documents by collection and id, as BSON; dead letters; checkpoints."""

    documents: dict[str, dict[str, bytes]]
    dead: list[tuple[str, int, int]]
    checkpoints: dict[str, int]


@dataclass(frozen=True)
class Figures:
    """Counts of a check.

    Attributes:
        events: Records in the log.
        calls: Log calls of the writers among them, each once.
        duplicated: Records that repeat an earlier one.
        dead: Dead letters.
        lost: Events that the trials report as lost.
    """

    events: int
    calls: int
    duplicated: int
    dead: int
    lost: int


class _Unreadable:
    """Placeholder in the model's log for bytes that hold no event."""

    request = None
    trial = ""


# --- Reading


async def read_log(config: Config) -> list[Record]:
    """Return all records, the registry's first, then by partition, decoded by the schemas in the log."""
    schemas = SchemaStore()
    for record in await records_of(config, config.schemas_topic):
        with suppress(SchemaError):
            schemas.add(record.value or b"")
    found = []
    for topic in (config.registry_topic, config.trials_topic):
        for record in await records_of(config, topic):
            try:
                event = schemas.decode(record.value or b"")
                event = None if envelope_fault(event) else event
            except SchemaError:
                event = None
            found.append(Record(topic, record.partition, record.offset, event))
    first = found[0].event
    assert isinstance(first, LogCreated)
    return [each if _is_at_home(each, config, first.partitions) else each._replace(event=None) for each in found]


def _is_at_home(record: Record, config: Config, partitions: int) -> bool:
    """Return whether a record is where Kafka's partitioner puts it; elsewhere its worker does not fold it."""
    if isinstance(record.event, TrialEvent):
        hash_ = record.event.trial.replace("~", "_").split("_")[0]
        home = (murmur2(hash_.encode()) & 0x7FFFFFFF) % partitions
        return (record.topic, record.partition) == (config.trials_topic, home)
    return record.topic == config.registry_topic


def read_view(config: Config) -> View:
    """Read the projection from one snapshot."""
    with (
        MongoClient(config.mongo, document_class=RawBSONDocument, serverSelectionTimeoutMS=2000) as client,
        client.start_session(snapshot=True) as session,
    ):
        documents_of = collections(client, live(config))
        documents = {
            kind: {each["_id"]: each.raw for each in documents_of[kind].find(OWN, session=session)} for kind in KINDS
        }
        letters = [
            (each["topic"], each["partition"], each["offset"])
            for each in documents_of["dead_letters"].find(session=session)
        ]
        positions = documents_of["checkpoints"].find({"offset": {"$exists": True}}, session=session)
        return View(documents, letters, {each["_id"]: each["offset"] for each in positions})


@asynccontextmanager
async def watched(config: Config, seconds: float = 0.3):
    """Read the projection repeatedly while the block runs; yield the list of views, for `check_documents`."""
    views: list[View] = []

    async def watch():
        while True:
            with suppress(PyMongoError):  # MongoDB may be the faulty server
                view = await run_sync(read_view, config)
                if not views or view.checkpoints != views[-1].checkpoints:
                    views.append(view)
            await anyio.sleep(seconds)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield views
        tasks.cancel_scope.cancel()


# --- Checking


async def check(
    config: Config,
    journals: Iterable[Journal],
    *,
    strangers: Iterable[str] = (),
    views: Iterable[View] = (),
    refused: Iterable[SubjectEvent] = (),
) -> Figures:
    """Wait until all is folded, and check the log and the documents.

    Args:
        config: Settings of the log and the projection.
        journals: Journals of all writers.
        strangers: Ids of writers without a journal, such as tests that write records by hand.
        views: Earlier views of the projection to check as well.
        refused: Events that Kafka refused, in the order of their writers.
    """
    refused = list(refused)
    await caught_up(config, 90)
    log = await read_log(config)
    view = read_view(config)
    ends = Counter(f"{each.topic}/{each.partition}" for each in log)
    assert {key: n for key, n in view.checkpoints.items() if n} == dict(ends)
    for each in (*views, view):
        check_documents(log, each)
    strangers = set(strangers)
    unique = check_log(log, journals, strangers, refused)
    counted = [each for each in unique if each.request is None and each.writer not in strangers]
    world = meaning([each.event or _Unreadable() for each in log])
    return Figures(
        events=len(log),
        calls=sum(1 for each in counted for _ in calls_of(each)),
        duplicated=sum(isinstance(each.event, SubjectEvent) for each in log) - len(unique) + len(refused),
        dead=len(view.dead),
        lost=sum(each["lost_events"] for each in (*world["trials"].values(), *world["groups"].values())),
    )


def check_documents(log: list[Record], view: View) -> None:
    """Compare the documents with the model of the log up to the checkpoints."""
    folded = [each for each in log if each.offset < view.checkpoints.get(f"{each.topic}/{each.partition}", 0)]
    places = {(each.topic, each.partition, each.offset): i for i, each in enumerate(folded)}
    beyond = [each for each in view.dead if each not in places]
    assert not beyond, f"dead letters beyond the checkpoints: {beyond[:_SHOWN]}"
    dead = sorted((places[each], "") for each in view.dead)

    wanted = comparable(expected(meaning([each.event or _Unreadable() for each in folded])))
    found = comparable(reading(view.documents, dead, series.MAX_ROWS))
    if wanted != found:
        shown = "\n".join(map(str, list(_differences(wanted, found, ""))[:_SHOWN]))
        raise AssertionError(f"at {view.checkpoints} the documents differ from the log:\n{shown}")
    stored = {id_: bson.decode(raw) for id_, raw in view.documents["series"].items() if not id_.endswith("/open")}
    outlines = {each["_id"]: each for each in outline_documents(map(series.Bucket.from_document, stored.values()))}
    assert outlines == {id_: bson.decode(raw) for id_, raw in view.documents["outlines"].items()}


def _differences(wanted: Any, found: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in wanted.keys() | found.keys():
            yield from _differences(wanted.get(key, "nothing"), found.get(key, "nothing"), f"{path}/{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for i, pair in enumerate(zip(wanted, found, strict=True)):
            yield from _differences(*pair, f"{path}/{i}")
    elif wanted != found:
        yield f"{path}: {str(wanted)[:300]} in the log, {str(found)[:300]} in MongoDB"


def check_log(
    log: list[Record],
    journals: Iterable[Journal],
    strangers: Iterable[str] = (),
    refused: Iterable[SubjectEvent] = (),
) -> list[SubjectEvent]:
    """Compare the log, with the refused events in its gaps, with the journals; return the events, each once."""
    strangers = set(strangers)
    unique = _unique(log, strangers, refused)
    by_writer: dict[str, list[SubjectEvent]] = defaultdict(list)
    for event in unique:
        by_writer[event.writer].append(event)
    outcomes = meaning([each.event or _Unreadable() for each in log])["outcomes"]
    known = {each.writer: each for each in journals}
    for writer in by_writer.keys() - known.keys() - strangers:
        raise AssertionError(f"writer {writer} has no journal, and wrote {by_writer[writer][:_SHOWN]}")
    for writer, journal in known.items():
        _check_calls(journal, [each for each in by_writer[writer] if each.request is None])
        _check_answers(journal, [each for each in by_writer[writer] if each.request is not None], outcomes)
    return unique


def _unique(log: list[Record], strangers: Iterable[str], refused: Iterable[SubjectEvent]) -> list[SubjectEvent]:
    """Return the writers' events, each once; check that each subject's are numbered 1, 2, 3 … without a gap."""
    seen: dict[Any, SubjectEvent] = {}
    last: dict[tuple[str, str], int] = {}
    missing = {(each.writer, each.subject, each.seq): each for each in refused}

    def fill(subject: tuple[str, str]) -> None:
        while (key := (*subject, last.get(subject, 0) + 1)) in missing:
            seen[key] = missing.pop(key)
            last[subject] = key[-1]

    for record in log:
        event = record.event
        if not isinstance(event, SubjectEvent):
            assert event is None or isinstance(event, LogCreated)
            continue
        subject = (event.writer, event.subject)
        key = event.request if event.request is not None else (*subject, event.seq)
        if key in seen:
            assert _content(seen[key]) == _content(event), f"{record} has the number of another event: {seen[key]}"
            continue
        if event.request is None and event.writer not in strangers:
            fill(subject)
            assert event.seq == last.get(subject, 0) + 1, f"{record} follows number {last.get(subject, 0)}"
            last[subject] = event.seq
        seen[key] = event
    for subject in [each[:2] for each in missing]:
        fill(subject)
    assert not missing, f"refused, and still in the log or beyond a gap: {list(missing)[:_SHOWN]}"
    return list(seen.values())


def _content(event: SubjectEvent) -> Any:
    """Return an event in a form to compare; of the creation of a trial, what is equal in all processes that send it."""
    content = comparable(asdict(event))
    if isinstance(event, TrialCreated):
        del content["writer"], content["time"]
    return content


def _check_calls(journal: Journal, events: list[SubjectEvent]) -> None:
    """Check that the calls are in the log in order, including all acknowledged ones.

    Rows of a trial without a common metric, and chronos, may overtake each other, but no other event and no row with
    one of their metrics. So the order is compared for the chronos, and for each metric by itself, with all other calls.
    """
    logged: dict[str, list[Call]] = defaultdict(list)
    for event in events:
        for each in calls_of(event):
            logged[each.trial].append(each)
    made: dict[str, list[tuple[bool, Call]]] = defaultdict(list)
    for number, each in enumerate(journal.calls):
        made[each.trial].append((number < journal.acked, each))
    for trial in logged.keys() | made.keys():
        found_by, wanted_by = _streams(logged[trial]), _streams(each for _, each in made[trial])
        acked_by = _streams(each for acked, each in made[trial] if acked)
        for stream in found_by.keys() | wanted_by.keys():
            others = found_by[""], wanted_by[""], acked_by[""]
            found, wanted, acked = (
                calls.get(stream, other) for calls, other in zip((found_by, wanted_by, acked_by), others, strict=True)
            )
            for i, (call, event) in enumerate(zip(wanted, found, strict=False)):
                assert call == event, f"writer {journal.writer}: call {i} of {trial} was {call}, the log has {event}"
            at = f"writer {journal.writer}, trial {trial}: {len(wanted)} calls, {len(acked)} of them acknowledged"
            assert len(acked) <= len(found) <= len(wanted), f"{at}; {len(found)} are in the log"


def _streams(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Return the calls that keep their order: those of each metric and those of chronos, each with all other calls.

    Args:
        calls: The calls of a trial.

    Returns:
        By metric, by "chronos", and by "" for all other calls alone.
    """
    others: list[Call] = []
    found = {"": others}
    for call in calls:
        if call.kind == "metrics":
            streams = [f"metric {name}" for name in json.loads(call.content)[1]]
        elif call.kind == "chrono":
            streams = ["chronos"]
        else:
            streams = list(found)
        for each in streams:
            found.setdefault(each, list(others)).append(call)
    return found


def _check_answers(journal: Journal, requests: list[SubjectEvent], outcomes: dict[str, Any]) -> None:
    """Check that the log grants exactly the requests that the journal has as granted, except unanswered ones."""
    granted: Counter[tuple[str, str]] = Counter()
    for event in requests:
        uid, applied, _ = outcomes[place(event)]
        if applied:
            made = isinstance(event, TrialCreated | ProjectCreated) or type(event).__name__ == "GroupCreated"
            granted["create" if made else "claim", uid] += 1
    unanswered = granted - journal.answers
    unknown = journal.answers - granted
    at = f"writer {journal.writer}"
    assert not unknown, f"{at} was granted {unknown}, which the log does not grant"
    assert unanswered.total() <= journal.unsure, f"{at} has no answer for {unanswered}, which the log grants"
