"""Become another program that dies together with its parent: `python tether.py PARENT_PID COMMAND...`.

On Linux the kernel sends SIGKILL to the process when the thread that started it ends, however it ends, and the
setting outlives `exec`: so the server keeps the pid that its parent knows, with no process in between. Elsewhere
there is no such call, and what a killed launcher leaves behind is found by its recorded pid (`process.ProcessId`).

Run as a file, never imported: it must start in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its parent, then exec the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call above.
    if os.getppid() != parent:
        sys.exit("the launcher is gone")
    os.execv(command[0], command)  # noqa: S606 - the purpose of this file


if __name__ == "__main__":
    main()
