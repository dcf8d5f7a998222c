"""Messages between a child process and its test: JSON lines out, and one line in for each go-ahead."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def tell(word: str, **facts: Any) -> None:
    """Write a message at once and in one write, since other processes and threads may share the output."""
    os.write(1, (json.dumps({"word": word, **facts}) + "\n").encode())


def wait_for_go() -> None:
    """Wait for the go-ahead of the test."""
    sys.stdin.readline()
