"""The oracle: plain Python that says what must be in the log and in MongoDB, from what the writers saw acknowledged.

- `check_log`: every acknowledged call is in the log once, with its values, in its writer's order, without a gap; and
  nothing is in the log that no writer did.
- `check_documents`: the documents are what the plain model (tests/property/model.py) makes of the log, compared whole,
  with the dead letters; up to the checkpoints, wherever these stand. So it holds for a look at any moment, and says
  that a checkpoint is neither ahead of its documents nor behind them.
- `check`: both, when all is folded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import anyio
from aiokafka.partitioner import murmur2
from anyio.to_thread import run_sync
from bson.raw_bson import RawBSONDocument
from journal import Call, Journal, calls_of
from model import comparable, expected, meaning, reading
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from service_support import caught_up, live, records_of
from trialstream.config import Config
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model import history as series
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import Event, LogCreated, ProjectCreated, SubjectEvent, TrialCreated, TrialEvent

KINDS = ("trials", "groups", "projects", "series", "outcomes")
_SHOWN = 5


class Record(NamedTuple):
    """A record of the log; the event is None where the bytes hold none, or one that belongs elsewhere."""

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
    """What a check has seen.

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
    """Stands in the model's log for bytes that hold no event."""

    request = None
    trial = ""


# --- Looking


async def read_log(config: Config) -> list[Record]:
    """All records, the registry's first, then those of each partition; decoded by the schemas that the log carries."""
    schemas = SchemaStore()
    for record in await records_of(config, config.schemas_topic):
        with suppress(SchemaError):
            schemas.add(record.value or b"")
    found = []
    for topic in (config.registry_topic, config.trials_topic):
        for record in await records_of(config, topic):
            try:
                event = schemas.decode(record.value or b"")
            except SchemaError:
                event = None
            found.append(Record(topic, record.partition, record.offset, event))
    first = found[0].event
    assert isinstance(first, LogCreated)
    return [each if _is_at_home(each, config, first.partitions) else each._replace(event=None) for each in found]


def _is_at_home(record: Record, config: Config, partitions: int) -> bool:
    """Whether a record lies where Kafka's partitioner puts it: only there does its partition's worker look after it."""
    if isinstance(record.event, TrialEvent):
        hash_ = record.event.trial.replace("~", "_").split("_")[0]
        home = (murmur2(hash_.encode()) & 0x7FFFFFFF) % partitions
        return (record.topic, record.partition) == (config.trials_topic, home)
    return record.topic == config.registry_topic


def look(config: Config) -> View:
    """The projection, all of it from one snapshot."""
    with (
        MongoClient(config.mongo, document_class=RawBSONDocument, serverSelectionTimeoutMS=2000) as client,
        client.start_session(snapshot=True) as session,
    ):
        database = client[live(config)]
        documents = {kind: {each["_id"]: each.raw for each in database[kind].find(session=session)} for kind in KINDS}
        letters = [
            (each["topic"], each["partition"], each["offset"]) for each in database.dead_letters.find(session=session)
        ]
        positions = database.checkpoints.find({"offset": {"$exists": True}}, session=session)
        return View(documents, letters, {each["_id"]: each["offset"] for each in positions})


@asynccontextmanager
async def watched(config: Config, seconds: float = 0.3):
    """Look at the projection again and again while the block runs; gives the list of views, for `check_documents`."""
    views: list[View] = []

    async def watch():
        while True:
            with suppress(PyMongoError):  # MongoDB may be the one that is broken
                view = await run_sync(look, config)
                if not views or view.checkpoints != views[-1].checkpoints:
                    views.append(view)
            await anyio.sleep(seconds)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield views
        tasks.cancel_scope.cancel()


# --- Checking


async def check(
    config: Config, journals: Iterable[Journal], *, strangers: Iterable[str] = (), views: Iterable[View] = ()
) -> Figures:
    """Wait until all is folded, and check the log and the documents.

    Args:
        config: Where they are.
        journals: Of all writers.
        strangers: Ids of writers without a journal, such as tests that write records by hand.
        views: Earlier looks at the projection, to be checked as well.
    """
    await caught_up(config, 90)
    log = await read_log(config)
    view = look(config)
    ends = Counter(f"{each.topic}/{each.partition}" for each in log)
    assert {key: n for key, n in view.checkpoints.items() if n} == dict(ends)
    for each in (*views, view):
        check_documents(log, each)
    strangers = set(strangers)
    unique = check_log(log, journals, strangers)
    counted = [each for each in unique if each.request is None and each.writer not in strangers]
    world = meaning([each.event or _Unreadable() for each in log])
    return Figures(
        events=len(log),
        calls=sum(1 for each in counted for _ in calls_of(each)),
        duplicated=sum(isinstance(each.event, SubjectEvent) for each in log) - len(unique),
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
        raise AssertionError(f"at {view.checkpoints} the documents are not what the log means:\n{shown}")


def _differences(wanted: Any, found: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in wanted.keys() | found.keys():
            yield from _differences(wanted.get(key, "nothing"), found.get(key, "nothing"), f"{path}/{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for i, pair in enumerate(zip(wanted, found, strict=True)):
            yield from _differences(*pair, f"{path}/{i}")
    elif wanted != found:
        yield f"{path}: {str(wanted)[:300]} in the log, {str(found)[:300]} in MongoDB"


def check_log(log: list[Record], journals: Iterable[Journal], strangers: Iterable[str] = ()) -> list[SubjectEvent]:
    """Compare the log with what the writers did; return its events, each once."""
    strangers = set(strangers)
    unique = _unique(log, strangers)
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


def _unique(log: list[Record], strangers: Iterable[str]) -> list[SubjectEvent]:
    """The events of writers, each once; a writer's, of one subject, lie there as 1, 2, 3 … without a gap."""
    seen: dict[Any, SubjectEvent] = {}
    last: dict[tuple[str, str], int] = {}
    for record in log:
        event = record.event
        if not isinstance(event, SubjectEvent):
            assert event is None or isinstance(event, LogCreated)
            continue
        subject = (event.writer, event.subject)
        key = event.request if event.request is not None else (*subject, event.seq)
        if key in seen:
            same = comparable(asdict(seen[key])) == comparable(asdict(event))
            assert same, f"{record} has the number of another event: {seen[key]}"
            continue
        seen[key] = event
        if event.request is None and event.writer not in strangers:
            assert event.seq == last.get(subject, 0) + 1, f"{record} follows number {last.get(subject, 0)}"
            last[subject] = event.seq
    return list(seen.values())


def _check_calls(journal: Journal, events: list[SubjectEvent]) -> None:
    """The calls are in the log in order, and all that were acknowledged.

    Frames of metrics and of chronos of one trial may overtake each other, and nothing else: the order is compared once
    without the ones and once without the others.
    """
    logged: dict[str, list[Call]] = defaultdict(list)
    for event in events:
        for each in calls_of(event):
            logged[each.trial].append(each)
    made: dict[str, list[tuple[bool, Call]]] = defaultdict(list)
    for number, each in enumerate(journal.calls):
        made[each.trial].append((number < journal.acked, each))
    for trial in logged.keys() | made.keys():
        for without in ("metrics", "chrono"):
            found = [each for each in logged[trial] if each.kind != without]
            wanted = [each for _, each in made[trial] if each.kind != without]
            acked = sum(acked for acked, each in made[trial] if each.kind != without)
            for i, (call, event) in enumerate(zip(wanted, found, strict=False)):
                assert call == event, f"writer {journal.writer}: call {i} of {trial} was {call}, the log has {event}"
            at = f"writer {journal.writer}, trial {trial}: {len(wanted)} calls, {acked} of them acknowledged"
            assert acked <= len(found) <= len(wanted), f"{at}; {len(found)} are in the log"


def _check_answers(journal: Journal, requests: list[SubjectEvent], outcomes: dict[str, Any]) -> None:
    """The log grants what the writer was told, and nothing else, save what it never got an answer for."""
    granted: Counter[tuple[str, str]] = Counter()
    for event in requests:
        uid, applied, _ = outcomes[event.request]
        if applied:
            made = isinstance(event, TrialCreated | ProjectCreated) or type(event).__name__ == "GroupCreated"
            granted["create" if made else "claim", uid] += 1
    untold = granted - journal.answers
    unknown = journal.answers - granted
    assert not unknown, f"writer {journal.writer} was told of {unknown}, and the log does not say so"
    assert untold.total() <= journal.unsure, f"the log grants {untold} to writer {journal.writer}, who does not know"
