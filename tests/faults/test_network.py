"""Faults of the network between Kafka and its clients, and between the consumer and MongoDB."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from injectors import ProxiedKafka, mongo_through_proxy
from oracle import check, watched
from proxy import Proxy
from service_support import folds_on
from writers import load

# Faults by name: the method of a proxy, and the duration in seconds.
FAULTS = {
    "latency": (lambda proxy: setattr(proxy, "latency", 0.05), 1.5),
    "throttled": (lambda proxy: setattr(proxy, "rate", 50_000), 1.5),
    "reset": (Proxy.reset, 0.5),
    "half-open": (Proxy.half_open, 2.0),
    "frozen": (Proxy.freeze, 2.0),
    "refused": (Proxy.refuse, 2.0),
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker that advertises the address of a proxy."""
    server = ProxiedKafka(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server
    server.stop()


async def suffered(proxy, running, faults):
    """Apply each fault to a proxy for its duration; after each, folding continues."""
    for fault, seconds in faults:
        fault(proxy)
        await anyio.sleep(seconds)  # the duration of the fault, not a wait for a condition
        proxy.heal()
        await running.grow(20)
        yield


@pytest.mark.parametrize("length", [0.3, pytest.param(15.0, marks=pytest.mark.slow)], ids=["short", "past time-outs"])
@pytest.mark.timeout(600)
async def test_faults_of_the_network_to_kafka_lose_nothing(config, consumer, broker, length):
    """With any fault between the broker and its clients, every event is folded once, in order."""
    with Proxy(broker.behind, broker.proxy_port) as proxy:
        config = replace(config, kafka=broker.proxied)
        service = consumer(config)
        async with load(config, writers=2, pause=0.02) as running:
            await running.grow(50)
            faults = [(fault, seconds * length) for fault, seconds in FAULTS.values()]
            async for _ in suffered(proxy, running, faults):
                await folds_on(config, 5)
        figures = await check(config, running.journals)
        service.stop()

    assert (figures.lost, figures.dead) == (0, 0)
    assert proxy.connections > 0


@pytest.mark.parametrize("length", [0.3, pytest.param(15.0, marks=pytest.mark.slow)], ids=["short", "past time-outs"])
@pytest.mark.timeout(600)
async def test_faults_of_the_network_to_mongodb_lose_nothing(config, consumer, stack, length):
    """With any fault between MongoDB and the consumer, the documents equal the oracle at every moment."""
    with mongo_through_proxy(config, stack) as (through, proxy):
        service = consumer(through)
        async with load(config, writers=2, pause=0.02) as running, watched(config) as views:
            await running.grow(50)
            faults = [(fault, seconds * length) for fault, seconds in FAULTS.values()]
            async for _ in suffered(proxy, running, faults):
                await folds_on(config, 5)
        figures = await check(config, running.journals, views=views[:: max(1, len(views) // 10)])
        service.stop()

    assert (figures.lost, figures.dead) == (0, 0)
