"""What the process prints: a copy of the last pieces, which are logged every few seconds."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, Literal

from trialstream_schemas.model.aggregators import AggregatorSpec, RingAggregator

__all__ = ["Pieces", "Stream", "Tee"]

Stream = Literal["stdout", "stderr"]

# Writes that are kept until they are logged, and characters of each; older ones are left out.
_MAX_WRITES = 4096
_MAX_WRITE = 4096
# Characters that a trial keeps of one stream of one process: about 256 KiB if it has the trial to itself, and 4 KiB in
# a run of 64 ranks or more, since all are in one document, which has 12 MiB.
_PIECES, _MIN_PIECES = 256, 16
_PIECE, _MIN_PIECE = 1024, 256
_MANY_RANKS = 16


class Pieces:
    """A text that grows, of which the last part is logged in pieces. Safe to use from any thread and signal handler.

    Args:
        world_size: Number of processes that log to the trial.

    Attributes:
        aggregator: Aggregator of the pieces: the trial keeps the last ones.
    """

    def __init__(self, world_size: int) -> None:
        count = max(_MIN_PIECES, _PIECES // world_size)
        self.aggregator: AggregatorSpec = RingAggregator.lazy(count)
        self._piece = _PIECE if world_size <= _MANY_RANKS else _MIN_PIECE
        self._limit = count * self._piece
        self._writes: deque[str] = deque(maxlen=_MAX_WRITES)

    def add(self, text: str) -> None:
        """Append a text; does not block."""
        self._writes.append(text if len(text) <= _MAX_WRITE else text[-_MAX_WRITE:])

    def take(self) -> list[str]:
        """Return what was added since the last call, in pieces of bounded length."""
        found = []
        while self._writes:
            found.append(self._writes.popleft())
        text = "".join(found)[-self._limit :]
        return [text[i : i + self._piece] for i in range(0, len(text), self._piece)]


class Tee:
    """Copies what is written to a stream of `sys` to pieces.

    What is written below Python, by C code or child processes, is not seen.

    Args:
        name: Name of the stream.
        pieces: Takes the text.
    """

    def __init__(self, name: Stream, pieces: Pieces) -> None:
        self._name = name
        self._stream = getattr(sys, name)
        self._pieces: Pieces | None = pieces

    def start(self) -> None:
        """Put this object in the place of the stream."""
        setattr(sys, self._name, self)

    def stop(self) -> None:
        """Put the stream back, unless something else was put in its place since; this object then only passes on."""
        self._pieces = None
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._stream)

    def write(self, text: str) -> int:
        """Write a text to the stream, and copy it.

        Args:
            text: The text.

        Returns:
            What the stream returns.
        """
        if self._pieces is not None and isinstance(text, str):
            self._pieces.add(text)
        return self._stream.write(text)  # type: ignore[no-any-return]

    def writelines(self, lines: Any) -> None:
        """Write several texts.

        Args:
            lines: The texts.
        """
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)
