"""Values of metrics that are arrays or tensors.

What is in memory is read at the call, so that changes in place after the call do not change what is logged. A value
that a device is still computing is copied in the order of the device's own operations, and the copy is read later, so
that the call does not wait for the device:

- *torch, CUDA and ROCm*: `to("cpu", non_blocking=True)` puts a copy into pinned memory on the current stream of the
  calling thread, and an event on that stream says when it is there. Another thread must not call `item()` of the
  tensor, nor of a copy on the device: that would run on the default stream, which neither waits for the stream of the
  call if that does not block it, nor ends before all that was launched there since.
- *jax*: an array is computed in the background on each platform. It cannot be changed, but a later call may delete it
  (`donate_argnums`), so it is copied unless it is there. An array of several processes is read at the call: its copy
  would be an operation in which all of them have to take part.

Tensors of other devices are read at the call. So are those whose copy fails: reading them fails too, and the call
raises the error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from trialstream.kafka.rows import EXACT

__all__ = ["LATE_BYTES", "LateValue", "late_values", "read_arrays"]

# Estimated memory of a late value: 512 bytes of pinned memory, an event, and objects of Python.
LATE_BYTES = 1024


class LateValue(NamedTuple):
    """The copy of a value that a device is still computing.

    Attributes:
        copy: The copy; its `item()` is the value once `done` returns True.
        done: Whether the device has computed it; raises an exception if the device has failed. For any thread.
    """

    copy: Any
    done: Callable[[], bool]


def read_arrays(values: Iterable[Any]) -> list[Any] | None:
    """Read the arrays of numpy among the values of a row.

    Args:
        values: Numbers that `struct` packs as doubles, and arrays.

    Returns:
        The numbers; None if one of them needs all checks.
    """
    found = []
    for x in values:
        if type(x) is np.ndarray:
            if x.size != 1:
                return None
            array, x = x, x.item()  # noqa: PLW2901 (the number in its place)
            if type(x) is not float and array.dtype.kind not in "fiub":
                return None
        if type(x) is not float and not -EXACT < x < EXACT:
            return None
        found.append(x)
    return found


def late_values(row: Mapping[str, Any]) -> dict[str, LateValue]:
    """Copy the values that a device is still computing.

    Args:
        row: Values by name.

    Returns:
        The copies by name; empty if all values are there, or have to be read at the call.
    """
    if not any(map(_copy_of, set(map(type, row.values())))):
        return {}
    return {name: late for name, x in row.items() if (late := _late(x)) is not None}


def _late(x: Any) -> LateValue | None:
    copy = _copy_of(type(x))
    try:
        return copy and copy(x)
    except Exception:  # noqa: BLE001 (of any library; `item()` raises it again)
        return None


def _copy_of(kind: type) -> Callable[[Any], LateValue | None] | None:
    """Return the function that copies values of a type; None if they are read at the call."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    # No other subclasses: such tensors may stand for anything, such as parts on several machines.
    if name in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        return _of_torch
    return _of_jax if name.startswith("jax") and kind.__name__ == "ArrayImpl" else None


def _of_torch(x: Any) -> LateValue | None:
    if not x.is_cuda or x.numel() != 1 or x.is_complex():
        return None
    cuda = sys.modules["torch"].cuda
    if cuda.is_current_stream_capturing():  # a graph would take the copy up, and not make it now
        return None
    copy = x.detach().to("cpu", non_blocking=True)
    return LateValue(copy, cuda.current_stream(x.device).record_event().query)


def _of_jax(x: Any) -> LateValue | None:
    if x.is_ready() or x.size != 1 or x.dtype.kind == "c" or not x.is_fully_addressable:
        return None
    copy = x.copy()
    return LateValue(copy, copy.is_ready)
