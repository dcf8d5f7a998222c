"""Tracing of each byte-code instruction that a call executes."""

from __future__ import annotations

import sys


def each_instruction(call, look):
    """Make a call with `look(frame)` before each instruction of its thread; `look` may raise into the call."""

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
