"""The summary of a trial: results that the user states, such as the final accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

__all__ = ["Summary"]


class Summary(MutableMapping[str, Any]):
    """Results by name, which are logged when they are set: as the metadata `summary/<name>`.

    It holds what this process has set.

    Args:
        log: Logs metadata by name.
    """

    def __init__(self, log: Callable[[dict[str, Any]], None]) -> None:
        self._log = log
        self._values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value
        self._log({f"summary/{name}": value})

    def __delitem__(self, name: str) -> None:
        del self._values[name]
        self._log({f"summary/{name}": None})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Summary({self._values!r})"
