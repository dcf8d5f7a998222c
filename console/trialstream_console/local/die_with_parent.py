"""Run a command that is killed when its parent process ends: `python die_with_parent.py PARENT_PID FOLDER COMMAND...`.

FOLDER is the descriptor of the working directory: its path may be that of another folder by now. What the command
creates, only this user can read.

On Linux the kernel sends SIGKILL to the process when the thread that started it ends, for any reason, and the setting
is kept across `exec`: the server has the pid that its parent recorded, with no process in between. Other systems have
no such call; there, servers left behind by a killed launcher are found by their recorded pid (`process.ProcessId`).

This file is executed, never imported: it must start in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Request SIGKILL at the parent's death, enter the folder, then exec the command."""
    parent, folder, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call above.
    if os.getppid() != parent:
        sys.exit(f"parent process {parent} has ended: the command was not started")
    os.fchdir(folder)
    os.close(folder)
    os.umask(0o077)
    os.execv(command[0], command)  # noqa: S606 - the purpose of this file


if __name__ == "__main__":
    main()
