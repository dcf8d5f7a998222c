"""The way of a row of metrics from its call into the inbox."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection
from struct import error as StructError  # noqa: N812 (a class)
from time import time_ns
from typing import Any

import numpy as np
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.trial import Trial

from trialstream.kafka.rows import EXACT, RowChecks
from trialstream.kafka.tensors import LATE_BYTES, LateValue, late_values, read_arrays
from trialstream.pipeline.frames import MetricsFrame
from trialstream.pipeline.inbox import InboxFull
from trialstream.pipeline.late import LateRow
from trialstream.pipeline.outbox import Outbox
from trialstream.protocol import Step

__all__ = ["RowLog"]

# Maximum number of trials and of trial objects that are remembered; then their next rows are checked anew.
_MAX_TRIALS = 20_000
# Maximum number of types of values that a shape remembers, in all tuples of them.
_MAX_TYPES = 2048
# Maximum number of shapes of one trial that are remembered.
_MAX_SHAPES = 1000
# Needs of rows with some types of values: a look at each value, for integers beyond 2**53 or for arrays; their size.
_INTEGERS, _ARRAYS, _WIDE = 1, 2, 4
# Rows of more values are appended with their size, and so are rows with a longer text as step.
_MAX_NARROW = 32
_MAX_TEXT = 64


class _Shape:
    """The rows of a trial with the same names, aggregator and type of step, as the user passes them.

    Attributes:
        step_type: Type of the step.
        given: The aggregator; None for the default.
        frame: The frame that gathers the rows. Several shapes share it if only the types of their steps differ.
        pack: `frame.pack`.
        text: Whether the steps are texts.
        types: By the types of a row's values: what such rows need, 0 for nothing. Rows of other types need all checks.
    """

    __slots__ = ("frame", "given", "pack", "step_type", "text", "types")

    def __init__(self, step_type: type, given: AggregatorSpec | None, frame: MetricsFrame) -> None:
        self.step_type = step_type
        self.given = given
        self.frame = frame
        self.pack = frame.pack
        self.text = frame.kind is str
        self.types: dict[tuple[type, ...], int] = {}


class _TrialRows:
    """The shapes of the rows of one trial.

    Attributes:
        latest: The latest shape of each tuple of names.
        shapes: All shapes, by names, type of the step, and `id` of the aggregator, to which the shape has a reference.
        frames: Their frames, by names, aggregator and kind of step.
    """

    __slots__ = ("frames", "latest", "shapes")

    def __init__(self) -> None:
        self.latest: dict[tuple[str, ...], _Shape] = {}
        self.shapes: dict[tuple[tuple[str, ...], type, int], _Shape] = {}
        self.frames: dict[tuple[tuple[str, ...], AggregatorSpec, type], MetricsFrame] = {}


class _Given:
    """The objects that made the uid of a trial object when it was passed: with the same ones it is the same trial."""

    __slots__ = ("hash", "request", "revision", "rows")

    def __init__(self, trial: Trial, rows: _TrialRows) -> None:
        self.hash, self.revision, self.request = trial.hash, trial.revision, trial.request
        self.rows = rows


class RowLog:
    """Puts rows of metrics into the inbox. Safe to use from any thread.

    Args:
        outbox: Takes the rows.
        checks: Checks rows.
    """

    def __init__(self, outbox: Outbox, checks: RowChecks) -> None:
        self._inbox = outbox.inbox
        self._checks = checks
        # By `id` of the trial object. Another object that gets the same id, and has the same objects for its uid, is
        # the same trial.
        self._given: dict[int, _Given] = {}
        # By uid.
        self._trials: dict[str, _TrialRows] = {}

    def add(self, trial: Trial, step: Step | None, aggregator: AggregatorSpec | None, row: dict[str, Any]) -> bool:
        """Put a row into the inbox, if rows of its kind were checked before. Almost every log call ends here.

        Args:
            trial: The trial object that the user passed.
            step: The step of the row.
            aggregator: The aggregator that the user passed.
            row: Values by name of the metric.

        Returns:
            Whether the row was logged; if not, `prepare` does it.

        Raises:
            ProtocolClosed: The protocol was closed during the call.
        """
        given = self._given.get(id(trial))
        if (
            given is None
            or given.revision is not trial.revision  # a user who changes the trial object logs to another trial
            or given.request is not trial.request
            or given.hash is not trial.hash
        ):
            return False
        names = tuple(row)
        shape = given.rows.latest.get(names)
        if shape is None:
            return False
        if shape.step_type is not type(step) or shape.given is not aggregator:
            shape = given.rows.shapes.get((names, type(step), id(aggregator)))
            if shape is None or shape.given is not aggregator:
                return False
        values: Collection[Any] = row.values()
        needs = shape.types.get(tuple(map(type, values)))
        inbox = self._inbox
        if needs is None or len(inbox.items) >= inbox.limit:
            return False
        if needs:
            if needs & _ARRAYS:
                numbers = read_arrays(values)
                if numbers is None:
                    return False
                values = numbers
            elif needs & _INTEGERS:
                for x in values:
                    if not -EXACT < x < EXACT:
                        return False
        argument: Any
        try:
            if shape.text:
                if not (len(step) <= _MAX_TEXT and step.isascii() and "\0" not in step):  # type: ignore[arg-type,union-attr,operator]
                    return False
                argument = shape.pack(0, time_ns(), *values), step
            else:
                argument = shape.pack(step or 0, time_ns(), *values)
        except StructError:  # a step of more than 64 bits, or one that is not finite
            return False
        item = (shape.frame, argument)
        if needs & _WIDE:
            try:
                inbox.add(item, shape.frame.row_bytes)
            except InboxFull:
                return False
            return True
        inbox.items.append(item)
        if inbox.idle:
            inbox.look(item)
        return True

    def prepare(
        self, trial: Trial, uid: str, step: Step | None, aggregator: AggregatorSpec | None, row: dict[str, Any]
    ) -> Callable[[], None]:
        """Check a row, and return a function that puts it into the inbox; `add` takes further rows of its kind.

        Args:
            trial: The trial object that the user passed.
            uid: Uid of the trial.
            step: The step, as the user passed it.
            aggregator: The aggregator, as the user passed it.
            row: Numbers by name.

        Returns:
            A function that appends the row; it may be called again after it has raised `InboxFull`.

        Raises:
            InvalidType: The step, the aggregator, a name or a value has a type that cannot be logged.
            InvalidValue: The step, a name or a value cannot be logged as it is.
        """
        late = late_values(row)
        now = {**row, **dict.fromkeys(late, 0.0)} if late else row
        plain, spec, names, numbers = self._checks.checked(step, aggregator, now)
        if not names:
            return lambda: None
        # The step of another type, such as a tensor, may become one of any kind.
        is_plain = step is None or type(step) is str or _is_plain(type(step))
        shape = self._shape(trial, uid, names, type(step if is_plain else plain), aggregator, spec, type(plain))
        if is_plain and len(shape.types) * len(names) < _MAX_TYPES:
            types = tuple(map(type, row.values()))
            kinds = set(types)
            if all(each is np.ndarray or _is_plain(each) for each in kinds):
                shape.types[types] = _look(kinds) | (_WIDE if len(names) > _MAX_NARROW else 0)
        packed = shape.pack(0 if isinstance(plain, str) else plain or 0, time_ns(), *numbers)
        argument: Any = (packed, plain) if shape.text else packed
        size = shape.frame.row_bytes if len(names) > _MAX_NARROW else 0
        if isinstance(plain, str) and len(plain) > _MAX_TEXT:
            size += 4 * len(plain)
        inbox = self._inbox
        if not late:
            return lambda: inbox.add((shape.frame, argument), size)
        read = self._reader(late, names, packed, plain)
        late_row = LateRow(shape.frame, [each.done for each in late.values()], read, len(late) * LATE_BYTES + size)
        return lambda: inbox.add((late_row, None), late_row.size)

    def _reader(
        self, late: dict[str, LateValue], names: tuple[str, ...], packed: bytes, step: Step | None
    ) -> Callable[[], Any]:
        """Return a function that reads the late values of a row, and returns the item for its frame.

        Args:
            late: The late values by name.
            names: Names of the metrics.
            packed: The packed row, without the late values.
            step: The step.
        """

        def read() -> Any:
            fields = array("d", packed)
            for name, each in late.items():
                fields[2 + names.index(name)] = self._checks.late_number(name, each.copy)
            return (fields.tobytes(), step) if isinstance(step, str) else fields.tobytes()

        return read

    def _shape(
        self,
        trial: Trial,
        uid: str,
        names: tuple[str, ...],
        step_type: type,
        aggregator: AggregatorSpec | None,
        spec: AggregatorSpec,
        kind: type,
    ) -> _Shape:
        """Return the shape of a checked row, and remember it."""
        if len(self._given) >= _MAX_TRIALS or len(self._trials) >= _MAX_TRIALS:
            self._given.clear()
            self._trials.clear()
        rows = self._trials.setdefault(uid, _TrialRows())
        given = _Given(trial, rows)
        if trial.uid == uid:  # otherwise it was changed while it was looked up
            self._given[id(trial)] = given
        key = names, step_type, id(aggregator)
        shape = rows.shapes.get(key)
        latest = rows.latest.get(names)
        if latest is not None and latest.step_type is step_type and latest.frame.aggregator == spec:
            latest.given = aggregator  # an equal one, such as one that is made for each call
            return latest
        if shape is None or shape.given is not aggregator:
            if len(rows.shapes) >= _MAX_SHAPES:
                rows.latest.clear()
                rows.shapes.clear()
                rows.frames.clear()
            frame = rows.frames.setdefault((names, spec, kind), MetricsFrame(uid, names, spec, kind))
            shape = rows.shapes[key] = _Shape(step_type, aggregator, frame)
        rows.latest[names] = shape
        return shape


def _look(kinds: set[type]) -> int:
    """Return the look that values of some types need; 0 for none."""
    if np.ndarray in kinds:
        return _ARRAYS
    return _INTEGERS if any(issubclass(each, (int, np.integer)) and each is not bool for each in kinds) else 0


def _is_plain(kind: type) -> bool:
    """Whether values of a type are numbers that `struct` packs as doubles, and that never change."""
    if kind in (float, int, bool, np.float16, np.float32, np.float64):
        return True
    return issubclass(kind, np.generic) and np.dtype(kind).kind in "iub"
