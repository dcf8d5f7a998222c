"""Kafka and mongod with TLS and authentication, for the tests of failed connections."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient
from trialstream_console.local import binaries, process
from trialstream_console.local.kafka import KafkaServer
from trialstream_console.local.ports import HOST, Ports, accepts_connections

USER, PASSWORD = "ada", "hunter2"

_LISTENERS = """\
listeners=BROKER://{host}:{kafka},CONTROLLER://{host}:{controller},TLS://{host}:{tls},SASL://{host}:{sasl},\
LOST://{host}:{lost},OAUTH://{host}:{oauth}
advertised.listeners=BROKER://{host}:{kafka},TLS://{host}:{tls},SASL://{host}:{sasl},LOST://broker.invalid:{lost},\
OAUTH://{host}:{oauth}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_PLAINTEXT,LOST:PLAINTEXT,\
OAUTH:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={pem}
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.oauth.oauthbearer.sasl.server.callback.handler.class=\
org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler
listener.name.oauth.oauthbearer.connections.max.reauth.ms=3600000
"""


@dataclass(frozen=True)
class SecureServers:
    """Addresses of the servers, and the certificate of their authority.

    Attributes:
        kafka: Listener without security.
        kafka_tls: Listener with TLS.
        kafka_sasl: Listener with SASL PLAIN, without TLS.
        kafka_lost: Listener without security, whose advertised name has no address.
        kafka_oauth: Listener with OAUTHBEARER, without TLS, that takes unsigned tokens and ends a connection when its
            token expires.
        mongo: mongod without security.
        mongo_tls: mongod with TLS and authentication.
        ca: PEM file of the authority.
    """

    kafka: str
    kafka_tls: str
    kafka_sasl: str
    kafka_lost: str
    kafka_oauth: str
    mongo: str
    mongo_tls: str
    ca: Path


class _SecureKafka(KafkaServer):
    """Kafka with further listeners."""

    extra: str

    def _prepare(self) -> None:
        super()._prepare()
        with (self.folder / "kafka.properties").open("a") as file:
            file.write(self.extra)  # of two settings with the same name, the last counts


def certificates(folder: Path) -> tuple[Path, Path]:
    """Make an authority and a server certificate for 127.0.0.1; return the authority, and certificate with key."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    new_key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signed)
    both = folder / "server.pem"
    both.write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
    return folder / "ca.pem", both


@contextmanager
def mongod(folder: Path, *options: str) -> Iterator[int]:
    """Run a standalone mongod; yield its port."""
    port = Ports.free().mongo
    folder.mkdir()
    command = [binaries.mongod(), "--dbpath", ".", "--port", str(port), "--bind_ip", HOST, "--nounixsocket", *options]
    child = process.run_on_spawner_thread(lambda: process.spawn(command, log=folder / "log", cwd=folder))
    try:
        deadline = time.monotonic() + 60
        while not accepts_connections(port):
            assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.05)
        yield port
    finally:
        child.kill()
        child.wait()


@contextmanager
def secure_servers(folder: Path) -> Iterator[SecureServers]:
    """Run the servers, in a folder that exists."""
    ca, pem = certificates(folder)
    ports = more = Ports.free()
    while {more.kafka, more.controller, more.mongo} & {ports.kafka, ports.controller, ports.mongo}:
        more = Ports.free()
    extra = {"tls": more.kafka, "sasl": more.controller, "lost": more.mongo}
    kafka_folder = folder / "kafka"
    kafka_folder.mkdir()
    kafka = _SecureKafka(kafka_folder, ports, "MkU3OEVBNTcwNTJENDM2Qg", binaries.kafka_class_path(lambda *_: None))
    known = {"host": HOST, "kafka": ports.kafka, "controller": ports.controller, "oauth": ports.mongo, "pem": pem}
    kafka.extra = _LISTENERS.format(**known, **extra, user=USER, password=PASSWORD)
    tls = ("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(pem), "--tlsCAFile", str(ca))
    with ExitStack() as running:
        mongo = running.enter_context(mongod(folder / "plain"))
        mongo_tls = running.enter_context(
            mongod(folder / "tls", *tls, "--tlsAllowConnectionsWithoutCertificates", "--auth")
        )
        running.callback(kafka.kill)
        kafka.start()
        with MongoClient(HOST, mongo_tls, tls=True, tlsCAFile=str(ca), directConnection=True) as client:
            client.admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])
        yield SecureServers(
            kafka=kafka.address,
            kafka_tls=f"{HOST}:{extra['tls']}",
            kafka_sasl=f"{HOST}:{extra['sasl']}",
            kafka_lost=f"{HOST}:{extra['lost']}",
            kafka_oauth=f"{HOST}:{ports.mongo}",
            mongo=f"{HOST}:{mongo}",
            mongo_tls=f"{HOST}:{mongo_tls}",
            ca=ca,
        )
