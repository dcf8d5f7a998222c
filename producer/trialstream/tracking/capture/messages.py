"""Messages of `logging`, and warnings, as pieces of text."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from trialstream.tracking.capture.output import Pieces

__all__ = ["MessageHandler", "watch_warnings"]

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class MessageHandler(logging.Handler):
    """Handler of the root logger that copies each message of the level `INFO` and above.

    Args:
        pieces: Takes the messages, a line each.
    """

    def __init__(self, pieces: Pieces) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter(_FORMAT))
        self._pieces = pieces

    def emit(self, record: logging.LogRecord) -> None:
        """Copy a message.

        Args:
            record: The message.
        """
        try:
            self._pieces.add(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 (a message whose arguments do not fit it)
            self._pieces.add(f"{record.levelname} {record.name}: {record.msg!r}\n")
        self._show_as_without(record)

    def _show_as_without(self, record: logging.LogRecord) -> None:
        """Show a message where Python would show it without this handler: if there is no other one on its way."""
        last = logging.lastResort
        if last is None or record.levelno < last.level or logging.getLogger().handlers[:1] != [self]:
            return
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if not all([isinstance(each, MessageHandler) for each in logger.handlers]):
                return
            logger = logger.parent if logger.propagate else None
        last.handle(record)

    def start(self) -> None:
        """Begin to copy."""
        logging.getLogger().addHandler(self)

    def stop(self) -> None:
        """End it."""
        logging.getLogger().removeHandler(self)


class _Show:
    """Shows warnings as before, and copies them.

    Args:
        show: Shows a warning.

    Attributes:
        show: As given.
        copies: The pieces that get the warnings, one for each tracker.
    """

    def __init__(self, show: Callable[..., None]) -> None:
        self.show = show
        self.copies: list[Pieces] = []

    def __call__(self, message: Any, category: Any, filename: str, lineno: int, *rest: Any, **more: Any) -> None:
        for pieces in tuple(self.copies):
            pieces.add(f"{filename}:{lineno}: {category.__name__}: {message}\n")
        self.show(message, category, filename, lineno, *rest, **more)


def watch_warnings(pieces: Pieces) -> Callable[[], None]:
    """Copy each warning that Python shows; the captures of all trackers share one object, as of `Tee`.

    Args:
        pieces: Takes the warnings, a line each.

    Returns:
        A function that ends this; it puts Python's function back unless something else shows the warnings by then.
    """
    show = warnings.showwarning
    watch = show if isinstance(show, _Show) else _Show(show)
    watch.copies.append(pieces)
    warnings.showwarning = watch

    def stop() -> None:
        if pieces in watch.copies:
            watch.copies.remove(pieces)
        if not watch.copies and warnings.showwarning is watch:
            warnings.showwarning = watch.show

    return stop
