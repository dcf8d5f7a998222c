"""The jars of Kafka's tools, of Kafka Connect and of MongoDB's sink; jgo caches the jars."""

from __future__ import annotations

import os
from pathlib import Path

import jgo
from trialstream_console.local.binaries import KAFKA_VERSION, java

__all__ = ["CONNECTOR_VERSION", "java_command"]

CONNECTOR_VERSION = "2.0.1"

# Jars with their dependencies, and jars alone: the connector depends on an older Kafka and on a range of versions of
# its driver. Kafka's tools include Connect.
_WHOLE = (f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}", "org.mongodb:mongodb-driver-sync:4.7.2")
_ALONE = (
    f"org.mongodb.kafka:mongo-kafka-connect:{CONNECTOR_VERSION}",
    "org.apache.avro:avro:1.12.0",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)

_LOG4J = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %-5p %c{1} - %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
"""


def java_command(*arguments: str) -> list[str]:
    """Return a command line that runs a class of the jars; its warnings go to stdout.

    Args:
        *arguments: Options of Java, the class and its arguments.

    Raises:
        RuntimeError: The jars could not be fetched.
    """
    try:
        artifacts = [artifact for whole in _WHOLE for artifact in jgo.resolve(whole)]
        artifacts += [jgo.resolve(alone)[0] for alone in _ALONE]
        class_path = os.pathsep.join(str(artifact.resolve()) for artifact in artifacts)
    except Exception as error:
        reason = type(error).__name__  # its message is a page about retries
        raise RuntimeError(f"the jars could not be fetched from the Maven repository ({reason})") from error
    logging = Path("log4j2.properties").absolute()
    logging.write_text(_LOG4J)
    common = ["-XX:-UsePerfData", f"-Dlog4j2.configurationFile={logging}", "-cp", class_path]
    return [str(java()), *common, *arguments]
