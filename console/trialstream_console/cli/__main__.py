"""Entry point of `python -m trialstream_console.cli`."""

from __future__ import annotations

from trialstream_console.cli import main

if __name__ == "__main__":
    main()
