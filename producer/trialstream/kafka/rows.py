"""Checks of rows of metrics, and of numbers in metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec, timeseries_aggregator, value_aggregator
from trialstream_schemas.model.caches import ByteCache, texts_bytes
from trialstream_schemas.model.scalars import NUMBER, scalar
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.values import MAX_VALUE_BYTES, check_name, number
from trialstream_schemas.wire.events import MetadataLogged, MetricsLogged

from trialstream.arguments import MAPPING_ADVICE, resolve
from trialstream.kafka import commands
from trialstream.protocol import Step

__all__ = ["EXACT", "RowChecks"]

# Size up to which tuples of names are remembered as checked, bytes.
_NAMES_BYTES = 16 * 1024 * 1024
# A double represents every integer below this one.
EXACT = 2**53


class RowChecks:
    """Checks rows, and remembers the checked names, so that each tuple of names is checked once.

    Args:
        warn_once: Warns the user of each message once.

    Attributes:
        updates: The updates that can claim a trial, by name.
    """

    def __init__(self, warn_once: Callable[[str], None]) -> None:
        self._warn_once = warn_once
        self._names: ByteCache[tuple[str, ...], None] = ByteCache(_NAMES_BYTES)
        self.updates: dict[str, commands.MakeUpdate] = {
            **commands.TRIAL_UPDATES,
            "log_trial_metadata": self.log_trial_metadata,
            "log_trial_metrics": self.log_trial_metrics,
        }

    def log_trial_metrics(
        self,
        writer: str,
        uid: str,
        /,
        *args: Mapping[str, Any] | Step | AggregatorSpec | None,
        step: Step | None = None,
        aggregator: AggregatorSpec | None = None,
        **kwargs: Any,
    ) -> MetricsLogged:
        """Make the event of one row, for a claim; the event of a row without values has no names."""
        kwargs, step, aggregator = resolve("metrics", args, kwargs, step=step, aggregator=aggregator)
        plain, spec, names, row = self.checked(step, aggregator, kwargs)
        return MetricsLogged(
            trial=uid,
            writer=writer,
            time=commands.now(),
            aggregator=spec,
            names=names,
            times=(0,),
            columns=[(x,) for x in row],
            steps=(plain,) if isinstance(plain, int) else (),
            float_steps=(plain,) if isinstance(plain, float) else (),
            text_steps=(plain,) if isinstance(plain, str) else (),
        )

    def log_trial_metadata(
        self,
        writer: str,
        uid: str,
        /,
        *args: Mapping[str, Any] | AggregatorSpec | None,
        aggregator: AggregatorSpec | None = value_aggregator,
        **kwargs: Any,
    ) -> MetadataLogged:
        """Make the event that merges values into the metadata, and warn of integers that lose digits."""
        event = commands.log_trial_metadata(writer, uid, *args, aggregator=aggregator, **kwargs)
        if event.aggregator.numeric:
            given, _ = resolve("metadata", args, kwargs, aggregator=None)
            for key, found in event.values.items():
                self._warn_inexact(f"metadata.{key}", given[key], found)
        return event

    def checked(
        self, step: Step | None, aggregator: AggregatorSpec | None, values: dict[str, Any]
    ) -> tuple[Step | None, AggregatorSpec, tuple[str, ...], list[float]]:
        """Check a row.

        Args:
            step: The step, as the user passed it.
            aggregator: The aggregator, as the user passed it.
            values: Numbers by name.

        Returns:
            The step, the aggregator, the names and the numbers.

        Raises:
            InvalidType: The step, the aggregator, a name or a value has a type that cannot be logged.
            InvalidValue: The step, a name or a value cannot be logged as it is.
        """
        try:
            plain = check_step(step)
        except (InvalidType, InvalidValue) as error:
            raise type(error)(f"{error}; {MAPPING_ADVICE}") from None
        spec = commands.checked_aggregator(aggregator, timeseries_aggregator)
        names = tuple(values)
        if names not in self._names:
            self._check_names(names)
        return plain, spec, names, [x if type(x) is float else self._number(name, x) for name, x in values.items()]

    def late_number(self, name: str, x: Any) -> float:
        """Convert a value that a device has computed since its call, in the I/O thread.

        Args:
            name: Name of the metric.
            x: The value.

        Returns:
            The number.

        Raises:
            InvalidType: The value could not be read.
        """
        found = number(x, f"metric {name!r}")
        if not -EXACT < found < EXACT:
            with suppress(Exception):  # warnings may be errors, and a program may handle them by functions of its own
                self._warn_inexact(f"metric {name!r}", x, found)
        return found

    def _number(self, name: str, x: Any) -> float:
        path = f"metric {name!r}"
        found = number(x, path)
        if not -EXACT < found < EXACT:
            self._warn_inexact(path, x, found)
        return found

    def _warn_inexact(self, path: str, x: Any, found: object) -> None:
        """Warn the user, once for each field, of an integer that lost digits when it became a double.

        Args:
            path: Name of the field.
            x: The number as the user passed it.
            found: The double.
        """
        exact = x if isinstance(x, (int, float)) else scalar(x, path, NUMBER)
        if isinstance(exact, int) and exact != found:
            self._warn_once(
                f"trialstream: {path}: an integer beyond 2**53 loses digits as a double: log it as a parameter or text"
            )

    def _check_names(self, names: tuple[str, ...]) -> None:
        total = sum(len(check_name(each, "metric").encode()) + 8 for each in names)
        if total > MAX_VALUE_BYTES:
            raise InvalidValue(
                f"metrics: expected at most {MAX_VALUE_BYTES} bytes in one call, got {total} for {len(names)} names"
            )
        self._names.keep(names, None, texts_bytes(names))
