"""OpenTelemetry: chronos are spans."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import trialstream as ts

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed: make test-integrations")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trialstream.integrations.opentelemetry import trace_chronos


@pytest.fixture
def exporter():
    """Keeps the spans that have ended."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter):
    """A tracer that exports to it."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def test_chronos_are_spans(tracker, logged, tracer, exporter):
    """Spans nest as chronos do, have the exception and the trial, and the trial has the trace."""
    with tracer.start_as_current_span("outer") as outer:
        trace_chronos(tracker, tracer)
        with tracker.chrono("epoch"):
            for _ in tracker.timed(range(2), "batch"):
                with tracer.start_as_current_span("of another library"):
                    pass
        with suppress(ZeroDivisionError), tracker.chrono("failing"):
            _ = 1 / 0
        assert trace.get_current_span() is outer
    trial, _ = logged()
    spans = {each.name: each for each in exporter.get_finished_spans()}
    parents = {each.name: each.parent and each.parent.span_id for each in exporter.get_finished_spans()}

    assert [each.name for each in exporter.get_finished_spans()].count("batch/load") == 2
    assert parents["epoch"] == outer.get_span_context().span_id
    assert parents["batch"] == spans["epoch"].context.span_id
    assert parents["of another library"] == spans["batch"].context.span_id
    assert spans["failing"].status.status_code is trace.StatusCode.ERROR
    assert spans["epoch"].attributes == {"trialstream.trial": tracker.uid}
    assert trial.metadata["trace"]["trace_id"] == trace.format_trace_id(outer.get_span_context().trace_id)
    assert trial.chronos["batch"].count == 1  # without the first
    assert trial.failed_chronos == {"failing": 1}


async def test_tasks_do_not_mix(name, tracer, exporter):
    """Chronos of concurrent tasks are spans of their own, each with its parent."""
    async with ts.track(name, capture=False) as t:
        trace_chronos(t, tracer)

        async def work(i):
            async with t.chrono(f"outer {i}"):
                await asyncio.sleep(0.01)
                with t.chrono(f"inner {i}"):
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(work(i) for i in range(3)))
        t.chrono("open").__enter__()
    spans = {each.name: each for each in exporter.get_finished_spans()}

    assert len(spans) == 7
    for i in range(3):
        assert spans[f"inner {i}"].parent.span_id == spans[f"outer {i}"].context.span_id


def test_an_instrumented_kafka_client(name):
    """A program whose Kafka client is instrumented logs as before."""
    instrumentation = pytest.importorskip(
        "opentelemetry.instrumentation.aiokafka", reason="opentelemetry-instrumentation-aiokafka is not installed"
    )
    instrumentor = instrumentation.AIOKafkaInstrumentor()
    instrumentor.instrument(skip_dep_check=True)
    try:
        with ts.track(name, capture=False) as t:
            t.log(loss=1.0)
            assert t.commit("folded")
    finally:
        instrumentor.uninstrument()
