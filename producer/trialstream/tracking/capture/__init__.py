"""The captures of a tracker beside the log calls, each kind with a switch of `track(capture=…)`.

- captures: the kinds, and the thread in which they work;
- output: what the process prints, in bounded pieces;
- messages: messages of `logging` and warnings;
- system: load of the machine and of its GPUs;
- code: commit and uncommitted changes;
- surroundings: host, Python, packages, command line;
- event_loop: lag and number of tasks of the event loop.
"""

from __future__ import annotations

from trialstream.tracking.capture.captures import KINDS, Captures, checked_capture

__all__ = ["KINDS", "Captures", "checked_capture"]
