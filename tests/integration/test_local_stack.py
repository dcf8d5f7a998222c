"""The local stack: its servers are started, found, killed, stopped, and started again with their data."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import httpx
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from service_support import paused
from trialstream.config import Config
from trialstream_console.local import LocalStack, LocalStackError, Ports
from trialstream_console.local.folder import DataFolder
from trialstream_console.local.status import read_status

COMMAND = [sys.executable, "-m", "trialstream_console.cli"]


async def topics(config: Config) -> list[str]:
    """Return the topics of the broker."""
    client = AIOKafkaAdminClient(**config.kafka_client())
    await client.start()
    try:
        return list(await client.list_topics())
    finally:
        await client.close()


async def create(config: Config) -> None:
    """Create a topic and a document."""
    client = AIOKafkaAdminClient(**config.kafka_client())
    await client.start()
    try:
        await client.create_topics([NewTopic(config.trials_topic, config.partitions, 1)])
    finally:
        await client.close()
    insert(config)


def insert(config: Config) -> None:
    """Insert a document."""
    with MongoClient(config.mongo) as client:
        client[config.database].things.insert_one({"_id": 1})


def count(config: Config) -> int:
    """Return the number of documents."""
    with MongoClient(config.mongo) as client:
        return client[config.database].things.count_documents({})


def left_in(folder: Path) -> list[str]:
    """Return the processes whose working directory is the folder: its servers."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.pid != os.getpid():
                found.append(process.name())
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"condition not met after {seconds} s"
        time.sleep(0.05)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a `trialstream` command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=100, env=environment()
    )


def environment() -> dict[str, str]:
    """Return the environment of this process without the tester's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRIALSTREAM_")}


@contextmanager
def foreground(folder: Path, *arguments: object, encoding: str = "utf-8") -> Iterator[subprocess.Popen[str]]:
    """Run `trialstream up` as a process; its output is in `<folder>.out`."""
    env = environment() | {"PYTHONIOENCODING": f"{encoding}:strict"}
    out = folder.with_suffix(".out")
    command = [*COMMAND, "up", "--data", str(folder), *map(str, arguments)]
    with (
        out.open("w") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, text=True, env=env) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[Path]:
    """A data folder for the commands; it keeps the free ports of the first start."""
    folder = tmp_path_factory.mktemp("up") / "data"
    yield folder
    run("down", "--data", folder)


@pytest.fixture(scope="module")
def ports() -> list[object]:
    """Options that choose free ports."""
    free = Ports.free()
    return ["--kafka-port", free.kafka, "--mongo-port", free.mongo]


async def test_the_stack_serves_topics_and_transactions(stack, config):
    """The servers support topics of several partitions, and transactions."""
    await create(config)
    client = AsyncIOMotorClient(config.mongo)
    async with await client.start_session() as session, session.start_transaction():
        await client[config.database].things.insert_one({"_id": 2}, session=session)
    client.close()

    assert config.trials_topic in await topics(config)
    assert count(config) == 2


def test_mongod_runs_no_javascript_and_compresses_nothing(stack, config):
    """Queries need no JavaScript, and 6.0.5 shows memory to whoever compresses a message before login."""
    asked = {"compression": ["zlib", "snappy", "zstd"]}
    insert(config)
    with MongoClient(config.mongo, compressors="zlib") as client:
        hello = client.admin.command({"hello": 1, **asked})
        for query in (
            {"$where": "true"},
            {"$expr": {"$function": {"body": "function() { return true }", "args": [], "lang": "js"}}},
        ):
            with pytest.raises(OperationFailure, match=r"(?i)script"):
                list(client[config.database].things.find(query))
        with pytest.raises(OperationFailure, match=r"(?i)script"):
            client[config.database].command("mapReduce", "things", map="f", reduce="f", out={"inline": 1})
        options = client.admin.command("getCmdLineOpts")["parsed"]

    assert "compression" not in hello
    assert options["security"]["javascriptEnabled"] is False
    assert options["net"]["compression"]["compressors"] == "disabled"
    assert options["net"]["bindIp"] == "127.0.0.1"
    assert options["net"]["unixDomainSocket"]["enabled"] is False
    found = [
        each.laddr.ip for each in psutil.Process(stack.mongo.pid).net_connections("inet") if each.status == "LISTEN"
    ]
    assert found == ["127.0.0.1"]


@pytest.mark.slow
async def test_each_server_can_be_killed_and_comes_back_with_its_data(stack, config):
    """Kill -9 of a single server loses no data and leaves the others running; the restarted server has a new pid."""
    await create(config)
    before = stack.kafka.pid, stack.mongo.pid
    for server in (stack.kafka, stack.mongo):
        server.kill()
        assert not server.running
        assert server.failure == ""
        with pytest.raises(LocalStackError, match="not running"):
            _ = server.pid
        await anyio.to_thread.run_sync(server.start)

    assert (stack.kafka.pid, stack.mongo.pid) != before
    assert config.trials_topic in await topics(config)
    assert count(config) == 1


async def test_a_second_stack_on_a_folder_is_refused(stack):
    """A second stack on a folder is refused, since two launchers must not write to the same files."""
    with pytest.raises(LocalStackError, match="is in use by another launcher"):
        LocalStack(stack.folder.path, consumer=False).start()
    assert stack.kafka.running


def test_a_paused_server_is_reported_as_silent(stack, config):
    """A server that is alive and accepts connections but does not answer is reported as silent."""
    with paused(stack.mongo):
        found = read_status(DataFolder(stack.folder.path))

    assert found.state == "broken"
    assert (found.servers["mongod"].state, found.servers["kafka"].state) == ("silent", "ok")
    assert read_status(DataFolder(stack.folder.path)).state == "ready"


@pytest.mark.slow
async def test_data_survives_a_restart_and_a_change_of_ports(tmp_path):
    """The replica set gets its new address; a server that dies at start is an error; no process is left behind."""
    folder = tmp_path / "data"
    with LocalStack(folder, consumer=False, ports=Ports.free()) as stack:
        await create(stack.config)
    assert left_in(folder) == []

    other = Ports.free()
    with LocalStack(folder, consumer=False, ports=other) as stack:
        assert stack.config.kafka == f"127.0.0.1:{other.kafka}"
        assert stack.config.trials_topic in await topics(stack.config)
        assert count(stack.config) == 1

    meta = folder / "kafka" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(LocalStackError, match=r"Kafka died \(exit code 1\)\. The end of .*kafka\.log:\n(.|\n)*node"):
        LocalStack(folder, consumer=False).start()
    assert left_in(folder) == []

    (folder / "mongo" / "storage.bson").write_bytes(b"garbage")
    with pytest.raises(LocalStackError, match=r"MongoDB died \(.*\)\. .*mongod\.log says:\n.*storage engine"):
        LocalStack(folder, consumer=False).start()
    assert left_in(folder) == []
    assert "MongoDB died" in read_status(DataFolder(folder)).error


def test_a_port_in_use_is_refused_and_nothing_is_left_behind(tmp_path):
    """MongoDB was started before Kafka found its port in use: it is stopped, and a temporary folder is removed."""
    ports = Ports.free()
    kept, temporary = LocalStack(tmp_path / "data", consumer=False, ports=ports), LocalStack(ports=ports)
    with socket.create_server(("127.0.0.1", ports.kafka)):
        for stack in (kept, temporary):
            with pytest.raises(LocalStackError, match=rf"Kafka cannot listen on port {ports.kafka}.*--kafka-port"):
                stack.start()
    assert left_in(kept.folder.path) == left_in(temporary.folder.path) == []
    assert kept.folder.path.exists()
    assert not temporary.folder.path.exists()


@pytest.mark.slow
def test_a_detached_stack_runs_until_down(data, ports):
    """A detached stack runs through `status`, `env`, a second `up` and the death of a server, until `down`."""
    assert run("status", "--data", data).returncode == 1
    assert run("env", "--data", data).returncode == 1
    assert not data.exists()

    up = run("up", "--detach", "--data", data, *ports)
    assert up.returncode == 0, up.stderr
    assert "✓ Starting the consumer" in up.stdout

    status = run("status", "--json", "--data", data)
    found = json.loads(status.stdout)
    assert status.returncode == 0
    assert found["state"] == "ready"
    assert {name: server["state"] for name, server in found["servers"].items()} == dict.fromkeys(
        ("mongod", "kafka", "consumer", "dashboard"), "ok"
    )

    env = subprocess.run(
        ["bash", "-c", f'eval "$({" ".join(COMMAND)} env --data {data})" && {sys.executable} -c "{SHOW}"'],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert json.loads(env.stdout) == found["settings"]
    assert found["settings"]["TRIALSTREAM_KAFKA"] == f"127.0.0.1:{ports[1]}"
    about = httpx.get(f"{found['settings']['TRIALSTREAM_DASHBOARD']}/api/v1/about").json()
    assert (about["mongo"], about["kafka"]) == ("ok", "ok")

    again = run("up", "--data", data)
    assert (again.returncode, "Already running" in again.stdout) == (0, True)
    other = run("up", "--data", data, "--kafka-port", 19999)
    assert (other.returncode, "runs with other ports" in other.stderr) == (1, True)

    down = run("down", "--data", data)
    log = (data / "launcher.log").read_text()
    assert down.returncode == 0
    assert log.index("Stopping the consumer") < log.index("Stopping Kafka") < log.index("Stopping MongoDB")
    assert left_in(data) == []
    assert json.loads(run("status", "--json", "--data", data).stdout)["state"] == "stopped"
    assert "Nothing is running" in run("down", "--data", data).stdout


SHOW = "import json, os; print(json.dumps({name: os.environ[name] for name in os.environ if name.startswith('TRIAL')}))"


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_kill_9_of_the_launcher_leaves_nothing_and_ctrl_c_stops_in_order(data, ports):
    """After kill -9 the folder can be started again; Ctrl-C then stops the servers in order with exit code 0.

    The second start writes to an ASCII terminal.
    """
    with foreground(data, *ports) as process:
        wait_for(lambda: read_status(DataFolder(data)).state == "ready" or process.poll() is not None)
        process.kill()
        if sys.platform == "linux":
            wait_for(lambda: left_in(data) == [], 10)
        status = run("status", "--json", "--data", data)
    assert (status.returncode, json.loads(status.stdout)["state"]) == (1, "stopped")
    assert left_in(data) == []

    with foreground(data, encoding="ascii") as process:
        wait_for(lambda: read_status(DataFolder(data)).state == "ready" or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    out = data.with_suffix(".out").read_text()
    assert out.index("Stopping the consumer") < out.index("Stopping Kafka") < out.index("Stopping MongoDB")
    assert left_in(data) == []


@pytest.mark.timeout(300)
def test_sigterm_during_the_start_leaves_nothing(data, ports):
    """An interrupted start stops the servers that it has started."""
    with foreground(data, *ports) as process:
        wait_for(lambda: "mongod" in left_in(data))
        process.send_signal(signal.SIGTERM)

        assert process.wait(30) == 128 + signal.SIGTERM
    assert left_in(data) == []


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_server_that_dies_later_ends_the_stack_with_its_log(data, ports):
    """The other servers are stopped, and `status` shows the reason."""
    with foreground(data, *ports) as process:
        wait_for(lambda: read_status(DataFolder(data)).state == "ready" or process.poll() is not None)
        os.kill(read_status(DataFolder(data)).servers["consumer"].pid, signal.SIGKILL)

        assert process.wait(60) == 1
    assert "error: the consumer died (killed by SIGKILL)" in data.with_suffix(".out").read_text()
    assert left_in(data) == []
    assert "the consumer died" in read_status(DataFolder(data)).error


def test_a_detached_start_that_fails_shows_the_reason(data, ports):
    """The launcher's error is printed, with exit code 1."""
    with socket.create_server(("127.0.0.1", int(str(ports[3])))):
        up = run("up", "--detach", "--data", data, *ports)

    assert up.returncode == 1
    assert f"error: MongoDB cannot listen on port {ports[3]}" in up.stderr
    assert left_in(data) == []
