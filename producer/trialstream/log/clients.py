"""Clients of Kafka: how they are made, stopped, and their errors translated."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from trialstream_schemas.errors import KafkaUnavailable

from trialstream.config import Config

__all__ = ["kafka_errors", "reading", "writing"]

# What aiokafka says of every attempt during an outage goes to the handlers that the user configured, and is not
# poured onto stderr where there are none.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())

_STOP_SECONDS = 2.0


@asynccontextmanager
async def kafka_errors(config: Config) -> AsyncIterator[None]:
    """Translate what aiokafka raises inside.

    Raises:
        KafkaUnavailable: with the address and what to do.
    """
    try:
        yield
    except KafkaError as error:
        raise KafkaUnavailable(
            f"Kafka at {config.kafka} does not answer ({type(error).__name__}: {error}); "
            "start one with `trialstream up`, or set TRIALSTREAM_KAFKA"
        ) from error


@asynccontextmanager
async def reading(config: Config, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside of any group, for as long as the block runs; stopping it has a deadline.

    Args:
        config: Where Kafka is.
        **settings: Further ones of the consumer.

    Raises:
        KafkaUnavailable: no broker answers.
    """
    consumer = AIOKafkaConsumer(
        **config.kafka_client(), enable_auto_commit=False, auto_offset_reset="earliest", **settings
    )
    try:
        async with kafka_errors(config):
            await consumer.start()
        yield consumer
    finally:
        with anyio.move_on_after(_STOP_SECONDS, shield=True):
            await consumer.stop()


@asynccontextmanager
async def writing(config: Config) -> AsyncIterator[AIOKafkaProducer]:
    """A producer for a few records, for as long as the block runs; stopping it has a deadline."""
    producer = AIOKafkaProducer(**config.kafka_client(), acks="all", linger_ms=5)
    try:
        await producer.start()
        yield producer
    finally:
        with anyio.move_on_after(_STOP_SECONDS, shield=True):
            await producer.stop()
