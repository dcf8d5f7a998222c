"""Settings: from arguments or from the environment, checked once."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field, fields
from typing import Any

from trialstream_schemas.errors import ConfigError

__all__ = ["Config"]

# Kafka topic names allow dots, MongoDB database names do not; the prefix names both.
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,48}")
# Those that begin with a digit are the rebuilt ones. MongoDB takes database names of less than 64 bytes.
_PROJECTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_DATABASE_BYTES = 63
_SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where the servers are and what their topics and database are called.

    Every field `x` is read from the environment variable `TRIALSTREAM_X` by `from_env` when it is not given.

    Attributes:
        kafka: Bootstrap servers, `host:port[,host:port...]`.
        mongo: MongoDB URI; must lead to a replica set (one node is enough), since the fold writes in transactions.
        prefix: Names the topics `<prefix>.trials`, `<prefix>.registry`, `<prefix>.schemas` and the database `<prefix>`.
        partitions: Partition count of `<prefix>.trials`; counts only when the topics are created.
        replication: Replication factor of the topics; counts only when they are created. Production wants 3.
        projection: Name of a projection to read as it is, made by `trialstream rebuild --until`; empty means the live
            one. A protocol with one cannot log; consumers take no notice of it.
        kafka_security_protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`, passed to Kafka as it is.
        kafka_sasl_mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        kafka_sasl_username: SASL user.
        kafka_sasl_password: SASL password; never shown by `repr`.
        kafka_ssl_cafile: PEM file of the authorities to trust; empty means the system's.
        kafka_ssl_certfile: PEM file of the client certificate.
        kafka_ssl_keyfile: PEM file of the client key.
    """

    kafka: str = "127.0.0.1:9092"
    mongo: str = field(default="mongodb://127.0.0.1:27017/?replicaSet=trialstream", repr=False)
    prefix: str = "trialstream"
    partitions: int = 8
    replication: int = 1
    projection: str = ""
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str = ""
    kafka_sasl_username: str = ""
    kafka_sasl_password: str = field(default="", repr=False)
    kafka_ssl_cafile: str = ""
    kafka_ssl_certfile: str = ""
    kafka_ssl_keyfile: str = ""

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(f"prefix {self.prefix!r}: 1 to 48 letters, digits, '_' or '-'")
        if self.projection:
            longest = _DATABASE_BYTES - len(self.prefix) - 1
            if not _PROJECTION.fullmatch(self.projection) or len(self.projection) > longest:
                raise ConfigError(
                    f"projection {self.projection!r}: a letter, then letters, digits, '_' or '-', {longest} characters "
                    "at most"
                )
        if not self.kafka:
            raise ConfigError("kafka: no bootstrap servers given")
        if not self.mongo.startswith(("mongodb://", "mongodb+srv://")):
            raise ConfigError("mongo: a URI that begins with mongodb:// or mongodb+srv:// is needed")
        if self.kafka_security_protocol not in _SECURITY_PROTOCOLS:
            known = ", ".join(_SECURITY_PROTOCOLS)
            raise ConfigError(f"kafka_security_protocol: one of {known}, not {self.kafka_security_protocol!r}")
        for name in ("partitions", "replication"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: at least 1, not {getattr(self, name)}")

    @classmethod
    def from_env(cls, **given: Any) -> Config:
        """Take what is given (not None), then `TRIALSTREAM_<NAME>`, then the defaults.

        Raises:
            ConfigError: a setting makes no sense; the message names it.
        """
        settings = {name: value for name, value in given.items() if value is not None}
        for each in fields(cls):
            text = os.environ.get(f"TRIALSTREAM_{each.name.upper()}")
            if text is None or each.name in settings:
                continue
            try:
                settings[each.name] = int(text) if each.type == "int" else text
            except ValueError:
                raise ConfigError(f"TRIALSTREAM_{each.name.upper()}: a whole number is needed, not {text!r}") from None
        return cls(**settings)

    @property
    def trials_topic(self) -> str:
        """Events of trials, keyed by trial hash."""
        return f"{self.prefix}.trials"

    @property
    def registry_topic(self) -> str:
        """Events of projects and groups; one partition."""
        return f"{self.prefix}.registry"

    @property
    def schemas_topic(self) -> str:
        """Compacted: fingerprint → schema."""
        return f"{self.prefix}.schemas"

    @property
    def database(self) -> str:
        """MongoDB database of the first projection; it names the live one."""
        return self.prefix

    @property
    def named_projection(self) -> str:
        """MongoDB database of the projection to read as it is."""
        return f"{self.prefix}~{self.projection}"

    @property
    def consumer_group(self) -> str:
        """Kafka group of the consumers that share the partitions."""
        return f"{self.prefix}.fold"

    def kafka_client(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes.

        Raises:
            ConfigError: a certificate or key cannot be read.
        """
        settings: dict[str, Any] = {
            "bootstrap_servers": self.kafka,
            "security_protocol": self.kafka_security_protocol,
            # aiokafka's 40 s would make every stop() against a dead broker that slow.
            "request_timeout_ms": 10_000,
        }
        if self.kafka_security_protocol.endswith("SSL"):
            settings["ssl_context"] = self._ssl_context()
        if self.kafka_security_protocol.startswith("SASL"):
            settings["sasl_mechanism"] = self.kafka_sasl_mechanism or "PLAIN"
            settings["sasl_plain_username"] = self.kafka_sasl_username
            settings["sasl_plain_password"] = self.kafka_sasl_password
        return settings

    def _ssl_context(self) -> ssl.SSLContext:
        at = f"kafka_ssl_cafile {self.kafka_ssl_cafile!r}"
        try:
            context = ssl.create_default_context(cafile=self.kafka_ssl_cafile or None)
            if self.kafka_ssl_certfile:
                at = f"kafka_ssl_certfile {self.kafka_ssl_certfile!r}, kafka_ssl_keyfile {self.kafka_ssl_keyfile!r}"
                context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile or None)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"{at}: {error}") from error
        return context
