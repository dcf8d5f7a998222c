"""`python -m trialstream_consumer.cli`."""

from __future__ import annotations

from trialstream_consumer.cli import main

if __name__ == "__main__":
    main()
