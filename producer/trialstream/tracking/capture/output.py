"""The output of the process: a copy of the last pieces, which are logged every few seconds."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
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
        with suppress(IndexError):  # not `while self._writes`: another thread may take the last one
            while True:
                found.append(self._writes.popleft())
        return self.split("".join(found))

    def split(self, text: str) -> list[str]:
        """Return the last part of a text, as much as a trial keeps, in pieces of bounded length."""
        text = text[-self._limit :]
        return [text[i : i + self._piece] for i in range(0, len(text), self._piece)]


class Tee:
    """Copies what is written to a stream of `sys` to pieces.

    What is written below Python, by C code or child processes, is not seen.

    Args:
        stream: The stream.

    Attributes:
        copies: The pieces that get the text, one for each tracker.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.copies: list[Pieces] = []

    @classmethod
    def start(cls, name: Stream, pieces: Pieces) -> Callable[[], None]:
        """Copy a stream; the captures of one stream share one object, so that they do not pile up.

        Args:
            name: Name of the stream.
            pieces: Takes the text.

        Returns:
            A function that ends this, and puts the stream back unless something else was put in its place since.
        """
        stream = getattr(sys, name)
        if stream is None:  # a process without a console
            return lambda: None
        tee = stream if isinstance(stream, Tee) else cls(stream)
        tee.copies.append(pieces)
        setattr(sys, name, tee)

        def stop() -> None:
            if pieces in tee.copies:
                tee.copies.remove(pieces)
            if not tee.copies and getattr(sys, name) is tee:
                setattr(sys, name, tee.stream)

        return stop

    def write(self, text: str) -> int:
        """Write a text to the stream, and copy it.

        Args:
            text: The text.

        Returns:
            What the stream returns.
        """
        if isinstance(text, str):
            for pieces in tuple(self.copies):
                pieces.add(text)
        return self.stream.write(text)  # type: ignore[no-any-return]

    def writelines(self, lines: Any) -> None:
        """Write several texts.

        Args:
            lines: The texts.
        """
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        return iter(self.stream)
