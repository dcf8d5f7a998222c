"""Refused events of a spool become part of it again, so that a push sends them.

The fold skips an event whose `seq` is not above the mark of its writer, and later events of that writer may be folded
already. So a refused event is sent under the name of another writer: one for each file of refused events, derived from
the content of the file. An interrupted push can therefore be repeated, and each event counts once. A request keeps its
id, which is all that identifies it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import replace

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import SubjectEvent
from trialstream_schemas.wire.schemas import SCHEMAS

from trialstream.spool.disk import disk_errors
from trialstream.spool.folder import Spool
from trialstream.spool.refused import read_refused
from trialstream.spool.segment import Contents, SpooledEvent

__all__ = ["drop_refused", "readmit"]


def drop_refused(spool: Spool) -> None:
    """Remove the events from the segments of a spool that are among its refused events too.

    A process that was killed may leave an event in both places. Sent from both, it would count twice.

    Args:
        spool: The spool, locked.

    Raises:
        SpoolError: A file cannot be read or written.
    """
    # Digests, since the refused events of a spool may take more than the memory.
    refused = {_digest(event) for _, _, contents in read_refused(spool) for event in contents.events}
    if not refused:
        return
    for segment, contents in spool.leftovers():
        kept = [event for event in contents.events if _digest(event) not in refused]
        if len(kept) < len(contents.events):
            spool.keep(segment, contents._replace(events=kept))


def _digest(event: SpooledEvent) -> bytes:
    topic, key, value = event
    return hashlib.blake2b(b"%b %d %b %b" % (topic.encode(), len(key), key, value), digest_size=16).digest()


def readmit(spool: Spool) -> None:
    """Turn the refused events of a spool into segments after all others.

    Args:
        spool: The spool, locked, without refused events in its segments.

    Raises:
        SpoolError: A file cannot be read, written or deleted.
    """
    for path, data, contents in read_refused(spool):
        spool.add_segment(_renamed(contents, hashlib.sha256(data).hexdigest()[:16]))
        with disk_errors(f"{path} cannot be deleted"):
            os.unlink(path.name, dir_fd=spool.open())


def _renamed(contents: Contents, writer: str) -> Contents:
    """Return contents with the events as those of another writer, numbered for each subject."""
    store = SchemaStore.of(contents.schemas)
    seqs: Counter[str] = Counter()
    renamed: list[SpooledEvent] = []
    for spooled in contents.events:
        try:
            event = store.decode(spooled.value)
        except SchemaError:  # of a newer version: sent as it is
            event = None
        if isinstance(event, SubjectEvent) and event.request is None:
            seqs[event.subject] += 1
            event = replace(event, writer=writer, seq=seqs[event.subject])
            spooled = spooled._replace(value=encode(event))  # noqa: PLW2901
        renamed.append(spooled)
    return contents._replace(events=renamed, schemas=contents.schemas | SCHEMAS)
