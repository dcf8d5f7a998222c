"""The reader of an offline protocol, which needs no driver of MongoDB."""

from __future__ import annotations

from typing import Any, NoReturn

import anyio
from trialstream_schemas.errors import Offline

from trialstream.reading.reader import Reader

__all__ = ["OfflineReader"]


class OfflineReader(Reader):
    """Reads nothing: every read raises `Offline`. A session refuses calls that read before they come here."""

    def trials(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to read.

        Raises:
            Offline: On every call.
        """
        raise Offline("the protocol works offline: nothing can be read")

    values = count = trial_counts = headings = groups = projects = candidates = changes = trials

    async def existing(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to read: see `trials`."""
        self.trials()

    check_log = histories = outcome = decision = wait_folded = existing

    async def poll_decisions(self) -> None:
        """Wait until cancelled."""
        await anyio.sleep_forever()

    def close(self) -> None:
        """Do nothing: there is no connection."""
