"""The page of operations: partitions, rates, dead letters, projections, topics, consumers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import trialstream as ts
from aiokafka import AIOKafkaProducer
from playwright.sync_api import Page, expect
from trialstream.config import Config
from trialstream.sync import SyncProtocol


async def send(config: Config, value: bytes) -> None:
    """Send a record that no version can read to the first partition."""
    producer = AIOKafkaProducer(bootstrap_servers=config.kafka)
    async with producer:
        await producer.send_and_wait(config.trials_topic, value, partition=0)


@pytest.fixture(scope="module")
def letter(served: Config, protocol: SyncProtocol) -> bytes:
    """The bytes of a dead letter of that log."""
    value = b"no event <script>"
    trial = protocol.new_trial(ts.Trial(name="before a dead letter"))
    assert trial is not None
    with ThreadPoolExecutor(1) as pool:  # the browser's event loop runs in this thread
        pool.submit(asyncio.run, send(served, value)).result()
    return value


def test_operations_show_the_log_and_its_consumers(open_page: Callable[..., Page], served: Config, letter: bytes):
    """Partitions with their lag and owner, the consumer, topics, the live projection, and the dead letter in bytes."""
    page = open_page("/operations")
    partitions = page.get_by_role("region", name="Partitions")
    expect(partitions.locator("tbody tr", has_text=served.trials_topic)).to_have_count(4)
    expect(page.get_by_role("region", name="Consumers").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("region", name="Topics")).to_contain_text(served.registry_topic)
    expect(page.get_by_role("region", name="Projections").get_by_text("live", exact=True)).to_have_count(1)
    expect(page.get_by_role("region", name="Consumers")).to_contain_text(f"{served.trials_topic}/0\u20133")
    for name in ("Partitions", "Topics", "Projections", "Consumers"):
        names = page.get_by_role("region", name=name).locator("th[scope=row] :is(bdi, code)")
        assert all(names.evaluate_all("all => all.map(each => each.getClientRects().length === 1)")), name
    letters = page.get_by_role("region", name="Dead letters")
    letters.locator("tbody button").first.click()
    expect(letters.locator("pre.hex")).to_contain_text(letter[:16].hex(" "))
    expect(letters.locator("pre.hex")).to_contain_text("no event <script")


def test_rates_follow_what_is_logged(open_page: Callable[..., Page], protocol: SyncProtocol):
    """The figures are looked at anew while the page is open."""
    page = open_page("/operations")
    expect(page.locator(".figures")).to_contain_text("events/s")
    trial = protocol.new_trial(ts.Trial(name="rates"))
    assert trial is not None
    seen = page.get_by_role("region", name="Partitions").locator("tbody").inner_text()
    for step in range(100):
        protocol.log_trial_metrics(trial, step=step, loss=1.0)
    protocol.commit("folded")
    page.wait_for_function("before => document.querySelector('.partitions tbody').innerText !== before", arg=seen)


def test_operations_without_kafka_say_so(open_page: Callable[..., Page]):
    """The error names what is away, and the page recovers by itself."""
    page = open_page("/")
    away = {"status": 503, "json": {"error": {"code": "kafka_away", "message": "no broker answered"}}}
    page.route("**/api/v1/operations", lambda route: route.fulfill(**away))
    page.goto("/operations")
    expect(page.get_by_role("alert").filter(has_text="Kafka is away")).to_contain_text("no broker answered")
    page.unroute("**/api/v1/operations")
    expect(page.get_by_role("region", name="Partitions")).to_be_visible()


def test_operations_fit_a_phone_in_the_dark(open_page: Callable[..., Page], letter: bytes):
    """The page is not wider than 390 pixels."""
    page = open_page("/operations", viewport={"width": 390, "height": 844}, color_scheme="dark")
    expect(page.get_by_role("region", name="Dead letters").locator("tbody tr").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page).to_have_title(re.compile("Operations"))
