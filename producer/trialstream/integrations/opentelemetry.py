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
    """The spans of the chronos of one tracker, whose methods for chronos it extends."""

    def __init__(self, tracker: Tracker, tracer: trace.Tracer) -> None:
        self._tracker = tracker
        self._tracer = tracer
        self._open: dict[int, tuple[trace.Span, Any]] = {}
        self._start_chrono = tracker.start_chrono
        self._finish_chrono = tracker.finish_chrono
        self._add_elapsed = tracker.add_elapsed
        tracker.start_chrono = self.start_chrono  # type: ignore[method-assign]
        tracker.finish_chrono = self.finish_chrono  # type: ignore[method-assign]
        tracker.add_elapsed = self.add_elapsed  # type: ignore[method-assign]

    def start_chrono(self, name: str, aggregator: Any, owner: object) -> None:
        self._tracker.call_safely("trace", self._start, name, owner)
        self._start_chrono(name, aggregator, owner)

    def finish_chrono(self, name: str, owner: object, exc_type: Any, exc_val: BaseException | None) -> None:
        self._finish_chrono(name, owner, exc_type, exc_val)
        self._tracker.call_safely("trace", self._finish, owner, exc_val)

    def add_elapsed(self, name: str, started: float) -> None:
        self._add_elapsed(name, started)
        self._tracker.call_safely("trace", self._add, name, started)

    def end_all(self) -> None:
        """End the spans of chronos that were not finished."""
        while self._open:
            _, (span, _) = self._open.popitem()
            span.end()

    def _start(self, name: str, owner: object) -> None:
        span = self._span(name)
        self._open[id(owner)] = span, context.attach(trace.set_span_in_context(span))

    def _finish(self, owner: object, error: BaseException | None) -> None:
        if (found := self._open.pop(id(owner), None)) is not None:
            span, token = found
            context.detach(token)
            if error is not None:
                span.record_exception(error)
                span.set_status(trace.StatusCode.ERROR, str(error))
            span.end()

    def _add(self, name: str, started: float) -> None:
        elapsed = int((time.perf_counter() - started) * 1e9)
        self._span(name, start_time=time.time_ns() - elapsed).end()

    def _span(self, name: str, **when: Any) -> trace.Span:
        return self._tracer.start_span(name, attributes={"trialstream.trial": self._tracker.uid}, **when)
