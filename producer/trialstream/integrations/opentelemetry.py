"""OpenTelemetry: the chronos of a trial as spans.

    with ts.track("service") as t:
        trace_chronos(t)
        with t.chrono("request"):  # is the current span meanwhile
            ...

Records of the log carry no trace ids: an event holds the rows of up to 4,096 calls, which belong to many spans. The
trial has the trace in which it began, and each span has the uid of the trial.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import context, trace

from trialstream.kafka.chronos import HeldChrono
from trialstream.tracking import Tracker

__all__ = ["trace_chronos"]


def trace_chronos(tracker: Tracker, tracer: trace.Tracer | None = None) -> None:
    """Make a span of each chrono that a tracker starts from now on.

    The span has the name of the chrono, the attribute `trialstream.trial` with the uid of the trial, and the exception
    that has ended the chrono. It is the current span of its block, so that chronos and spans of other libraries nest.
    The metadata `trace` of the trial has the ids of the span that is current now, if there is one.

    Args:
        tracker: The tracker.
        tracer: Makes the spans; None for that of the global provider.
    """
    spans = _Spans(tracker, tracer or trace.get_tracer("trialstream"))
    found = trace.get_current_span().get_span_context()
    if found.is_valid:
        ids = {"trace_id": trace.format_trace_id(found.trace_id), "span_id": trace.format_span_id(found.span_id)}
        tracker.log_metadata({"trace": ids})
    tracker.at_end(spans.end_all)


class _Spans:
    """The spans of the chronos of one tracker."""

    def __init__(self, tracker: Tracker, tracer: trace.Tracer) -> None:
        self._tracker = tracker
        self._tracer = tracer
        self._open: dict[int, tuple[trace.Span, Any]] = {}
        tracker.chronos.observer = self

    def start(self, chrono: HeldChrono) -> None:
        """Start the span of a chrono, in the context of its block."""
        span = self._span(chrono.name)
        self._open[id(chrono)] = span, context.attach(trace.set_span_in_context(span))

    def finish(self, chrono: HeldChrono, elapsed: float, error: BaseException | None) -> None:
        """End the span of a chrono; one without a span gets one whose times are in the past.

        Args:
            chrono: The chrono.
            elapsed: Its duration, seconds.
            error: The exception that ended it, or None.
        """
        if (found := self._open.pop(id(chrono), None)) is None:
            self._span(chrono.name, start_time=time.time_ns() - int(elapsed * 1e9)).end()
            return
        span, token = found
        context.detach(token)
        if error is not None:
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, str(error))
        span.end()

    def end_all(self) -> None:
        """End the spans of chronos that were not finished."""
        self._tracker.chronos.observer = None
        while self._open:
            _, (span, _) = self._open.popitem()
            span.end()

    def _span(self, name: str, **when: Any) -> trace.Span:
        return self._tracer.start_span(name, attributes={"trialstream.trial": self._tracker.uid}, **when)
