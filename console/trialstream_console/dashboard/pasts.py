"""The records and the states of the trials that pages look at, kept between requests within a bound of memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

import anyio
from trialstream_consumer.replay.trial_log import LogTooLarge, NotReadYet, TrialLog
from trialstream_consumer.replay.trial_states import TrialStates
from trialstream_schemas.errors import LogMismatch
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.wire.events import Event, TrialEvent
from trialstream_schemas.wire.heads import KINDS, PREFIX_BYTES

from trialstream_console.dashboard.caches import PerContext
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.refusals import Refusal

__all__ = ["Past", "kind_of", "past_of"]

# Memory of all. The largest trial takes some 300 MiB, and one of a thousand events less than 1 MiB.
_MAX_BYTES = 512 * 1024 * 1024
# Memory of a past that has nothing yet, bytes.
_PAST_BYTES = 16 * 1024
_READ_SECONDS = 10.0
# Several requests of a page share a read of the log.
_FRESH_SECONDS = 1.0


class Past(NamedTuple):
    """A trial's records and states.

    Attributes:
        log: The records, of all trials with its hash.
        states: The states.
        is_alone: Whether there is one trial with its hash.
    """

    log: TrialLog
    states: TrialStates
    is_alone: bool

    @property
    def nbytes(self) -> int:
        """Memory of the records and the states, bytes."""
        return _PAST_BYTES + self.log.nbytes + self.states.nbytes

    def has(self, event: Event) -> bool:
        """Whether an event is about the trial, as far as the records are folded."""
        if not isinstance(event, TrialEvent):
            return False
        return self.is_alone or event.trial == self.log.uid or event.trial in self.states.addresses()


class _Pasts:
    """The pasts of one context, the longest unused one first.

    Args:
        context: The context.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pasts: OrderedDict[str, Past] = OrderedDict()
        self._read: dict[str, float] = {}
        self._opening = anyio.Lock()

    async def get(self, uid: str) -> Past:
        """Return the past of a trial, read to the end of the log."""
        async with self._opening:
            past = await self._known(uid)
        if time.monotonic() - self._read.get(uid, float("-inf")) > _FRESH_SECONDS:
            try:
                await past.log.read(_READ_SECONDS)
            except NotReadYet as error:
                raise Refusal("too_many", str(error), retry_after=1.0) from None
            except LogTooLarge as error:
                raise Refusal("too_large", str(error), place="uid") from None
            except LogMismatch:
                self._pasts.pop(uid, None)  # the next request reads the new log
                raise
            self._read[uid] = time.monotonic()
        return past

    async def _known(self, uid: str) -> Past:
        protocol = await self._context.protocol()
        rows = await protocol.fetch_values(["uid", "created"], {"hash": hash_of(uid)}, sort="created", limit=1000)
        if uid not in [each for each, _ in rows]:
            raise Refusal("not_found", f"there is no trial {uid}", place="uid")
        past = self._pasts.get(uid)
        if past is None or past.is_alone != (len(rows) == 1):
            log = TrialLog(self._context.config, uid, rows[0][1]) if past is None else past.log
            past = Past(log, TrialStates(log) if past is None else past.states, len(rows) == 1)
        self._pasts[uid] = past
        self._pasts.move_to_end(uid)
        size = sum(each.nbytes for each in self._pasts.values())
        while size > _MAX_BYTES and len(self._pasts) > 1:
            dropped, oldest = self._pasts.popitem(last=False)
            self._read.pop(dropped, None)
            size -= oldest.nbytes
        return past


_PASTS = PerContext[_Pasts](_Pasts)


async def past_of(context: Context, uid: str) -> Past:
    """Return the past of a trial.

    Args:
        context: The context.
        uid: Uid of the trial.

    Raises:
        Refusal: There is no such trial, Kafka is away, or the records of the trial are too many.
    """
    if context.kafka != "ok":
        off = "the dashboard reads MongoDB alone: set TRIALSTREAM_READ_ONLY to 0"
        raise Refusal("kafka_away", off if context.kafka == "off" else context.kafka, retry_after=10.0)
    return await _PASTS.of(context).get(uid)


def kind_of(value: bytes) -> str:
    """Return the name of the class of an encoded event, without decoding it; empty if another version wrote it.

    Args:
        value: The event in single-object encoding.
    """
    kind = KINDS.get(value[:PREFIX_BYTES])
    return "" if kind is None else kind.__name__
