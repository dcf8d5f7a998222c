"""Streams: the events of the log as they are appended, or from its past; docs/streaming.md.

| module | job |
|---|---|
| `opening` | `stream`: its arguments, and the choice of the log |
| `stream` | the iterator and its position |
| `merging` | the partitions of a stream in one order, within bounds of memory |
| `scan` | from the records of a partition to its events |
| `decisions` | what the log has decided about trials and groups |
| `filters`, `positions` | which events, from where on |
| `items`, `rows` | what a stream returns |
| `source`, `kafka_log` | the interface of a log, and the log in Kafka |
"""

from __future__ import annotations

from trialstream.streaming.items import LogEvent, StreamEvent
from trialstream.streaming.opening import stream
from trialstream.streaming.positions import BEGIN, NOW, Bound, Position, Since
from trialstream.streaming.rows import Row, Rows
from trialstream.streaming.stream import Stream

__all__ = [
    "BEGIN",
    "NOW",
    "Bound",
    "LogEvent",
    "Position",
    "Row",
    "Rows",
    "Since",
    "Stream",
    "StreamEvent",
    "stream",
]
