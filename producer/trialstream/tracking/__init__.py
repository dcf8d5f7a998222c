"""The tracker, which people use in their training code: short and liberal, over the strict and complete Protocol.

- track: opens a trial, in a block or without one;
- tracker, trackers: the calls of training code; those that wait, in plain and in async code;
- chronos, wrapping, instrument: measured blocks, loops and functions; log calls on the trial of the context;
- context: the tracker of a task, a thread or the process;
- values, rows, definitions, summary: what users log, in the forms of the Protocol;
- handle: trials that other processes log to, and marks of checkpoints;
- launch: run, rank and attempt, from the environment of a launcher;
- termination: SIGTERM as an exception;
- faults: errors, which never reach training;
- capture: output, messages, load and surroundings of the process.
"""

from __future__ import annotations

from trialstream.tracking.context import current
from trialstream.tracking.faults import Health
from trialstream.tracking.handle import Handle
from trialstream.tracking.instrument import chrono, instrument, log, log_arguments, log_metadata, note, tag
from trialstream.tracking.termination import Terminated
from trialstream.tracking.track import track
from trialstream.tracking.tracker import Tracker
from trialstream.tracking.trackers import AsyncTracker, SyncTracker

__all__ = [
    "AsyncTracker",
    "Handle",
    "Health",
    "SyncTracker",
    "Terminated",
    "Tracker",
    "chrono",
    "current",
    "instrument",
    "log",
    "log_arguments",
    "log_metadata",
    "note",
    "tag",
    "track",
]
