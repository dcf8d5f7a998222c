"""Faults of the network between everybody and Kafka, and between the consumer and MongoDB."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from injectors import ProxiedKafka, mongo_through_proxy
from oracle import check, watched
from proxy import Proxy
from service_support import folds_on
from writers import load

# By name: what it does to a proxy, and for how many seconds it lasts.
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
    """A broker that tells its clients to come through a proxy."""
    server = ProxiedKafka(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server
    server.stop()


async def suffered(proxy, running, faults):
    """Let a proxy have each fault for a while; after each the folding goes on."""
    for fault, seconds in faults:
        fault(proxy)
        await anyio.sleep(seconds)  # that long a fault, not a wait for anything
        proxy.heal()
        await running.grow(20)
        yield


@pytest.mark.parametrize("length", [1.0, pytest.param(15.0, marks=pytest.mark.slow)], ids=["short", "past time-outs"])
@pytest.mark.timeout(600)
async def test_faults_of_the_network_to_kafka_cost_nothing(config, consumer, broker, length):
    """Whatever happens between the broker and its clients, writers and consumer alike: all is folded once, in order."""
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


@pytest.mark.parametrize("length", [1.0, pytest.param(15.0, marks=pytest.mark.slow)], ids=["short", "past time-outs"])
@pytest.mark.timeout(600)
async def test_faults_of_the_network_to_mongodb_cost_nothing(config, consumer, stack, length):
    """Whatever happens between MongoDB and the consumer: the documents equal the oracle at every moment."""
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
