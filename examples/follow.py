"""Follow the runs of a project: print its metrics as they are logged, and go on after a restart where it was left.

python examples/follow.py PROJECT POSITION-FILE [--once]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import trialstream as ts


async def show(project: str, since: ts.Since, store: Callable[[str], object], *, follow: bool) -> None:
    """Print each event, and store the position after it."""
    seen = rows = 0
    async with ts.stream(project=project, since=since, follow=follow) as stream:
        async for item in stream:
            seen += 1
            match item.event:
                case ts.Rows() as found:
                    rows += len(found)
                    last = ", ".join(f"{name} {column[-1]:.4g}" for name, column in found.values.items())
                    print(f"{item.trial}: {len(found)} rows, {last}")
                case ts.events.StatusSet(status=status):
                    print(f"{item.trial}: {status.name}")
                case event:
                    print(f"{item.trial or item.project}: {type(event).__name__}")
            store(str(stream.position))
    print(f"{seen} events, {rows} rows")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    file = Path(sys.argv[2])
    stored = file.read_text() if file.exists() else ts.BEGIN
    asyncio.run(show(sys.argv[1], stored, file.write_text, follow="--once" not in sys.argv))
