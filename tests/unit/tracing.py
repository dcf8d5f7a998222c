"""Looking at each instruction of byte code that a call executes."""

from __future__ import annotations

import sys


def each_instruction(call, look):
    """Make a call, and `look` at the frame before each instruction of its thread; what that raises comes from there."""

    def trace(frame, event, _):
        frame.f_trace_opcodes = True
        if event == "opcode":
            look(frame)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
