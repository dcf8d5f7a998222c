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

    def start(self) -> None:
        """Begin to copy."""
        logging.getLogger().addHandler(self)

    def stop(self) -> None:
        """End it."""
        logging.getLogger().removeHandler(self)


def watch_warnings(pieces: Pieces) -> Callable[[], None]:
    """Copy each warning that Python shows.

    Args:
        pieces: Takes the warnings, a line each.

    Returns:
        A function that ends this, unless something else shows the warnings by then.
    """
    show = warnings.showwarning
    watching = True

    def show_and_copy(message: Any, category: Any, filename: str, lineno: int, *rest: Any, **more: Any) -> None:
        if watching:
            pieces.add(f"{filename}:{lineno}: {category.__name__}: {message}\n")
        show(message, category, filename, lineno, *rest, **more)

    def stop() -> None:
        nonlocal watching
        watching = False
        if warnings.showwarning is show_and_copy:
            warnings.showwarning = show

    warnings.showwarning = show_and_copy
    return stop
