"""Settings: read from arguments or from the environment, and checked once."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import Field, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

from trialstream_schemas.errors import ConfigError
from trialstream_schemas.storage.collections import Namespace

from trialstream.addresses import check_servers
from trialstream.credentials import secret_of
from trialstream.files import own_folder

__all__ = ["Config", "FilePath", "Tokens", "check_timeout"]

FilePath: TypeAlias = str | os.PathLike[str]
Tokens: TypeAlias = Callable[[], str | Awaitable[str]] | None

# Kafka topic names allow dots and MongoDB database names do not; the prefix is part of both.
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,48}")
_RESERVED_PREFIXES = ("admin", "config", "local")  # in any case: names of databases differ in more than case
_FLAGS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
    "": False,
}
_SPOOL_MODES = ("overflow", "always", "off")
_WHEN_FULL = ("block", "drop_oldest", "raise")
# Minimum of `memory_bytes` and `spool_bytes`: with less, they could not hold a few of the largest events.
_MIN_BYTES = 16 * 1024 * 1024
# Names that begin with a digit belong to rebuilt projections. `<prefix>.dead_letters~<name>` has 126 bytes at most:
# MongoDB limits the name of a collection, with its database, to 255 bytes, and to 235 if it is sharded.
_PROJECTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_SASL_MECHANISMS = ("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")  # empty: PLAIN
# Kafka's requests hold the partition count in 32 bits and the replication factor in 16.
_MAX_COUNTS = {"partitions": 2**31 - 1, "replication": 2**15 - 1}


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # lone surrogates cannot be sent
    return _file_path(value)


def _file_path(value: Any) -> str:
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError
    if "\0" in text:
        raise ValueError
    return text


def _whole_number(value: Any) -> int:
    if not _is_number(value, Integral):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if not _is_number(value, Real):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _function(value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError
    return value


@dataclass(frozen=True)
class _Type:
    """Type of a field.

    Attributes:
        wanted: Description of its values.
        check: Returns a given value; raises TypeError, ValueError or OverflowError if it is not of the type.
        parse: Converts the text of an environment variable; raises ValueError or KeyError if it cannot. None if no text
            is a value.
    """

    wanted: str
    check: Callable[[Any], Any]
    parse: Callable[[str], Any] | None = str


# By the annotation of a field.
_TYPES = {
    "str": _Type("a text without NUL characters and lone surrogates", _text),
    "FilePath": _Type("a path without NUL characters", _file_path),
    "int": _Type("a whole number", _whole_number, int),
    "float": _Type("a number", _number, float),
    "bool": _Type("true or false", _flag, lambda text: _FLAGS[text.lower()]),
    "Tokens": _Type("a function that returns a token", _function, None),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a connection or a consumer.

    `from_env` reads each field `x` that is not given from the environment variable `TRIALSTREAM_X`. A field that may
    hold a secret is not shown by `repr`, and is also read from the file that `TRIALSTREAM_X_FILE` names.

    Attributes:
        kafka: Bootstrap servers, `host:port[,host:port...]`.
        mongo: MongoDB URI of a replica set (one node is enough), since the fold writes in transactions; never shown by
            `repr`. Empty: a protocol only logs; its creations do not wait for an outcome, as without servers.
        mongo_password: Password of the user in the URI, if the URI has none; never shown by `repr`.
        mongo_ssl_password: Password of the key in the URI's `tlsCertificateKeyFile`; never shown by `repr`.
        prefix: Names the topics `<prefix>.trials`, `<prefix>.registry`, `<prefix>.schemas` and the database `<prefix>`.
        partitions: Partition count of `<prefix>.trials`; used only when the topics are created.
        replication: Replication factor of the topics; used only when they are created. Use 3 in production.
        offline: Whether to work without servers: all events go into the spool, for `trialstream push`.
        read_only: Whether to read with MongoDB alone, without any connection to Kafka; such a protocol cannot log.
        sync_writes: Whether each log call returns only once its event is folded into the documents.
        spool: When events are written to disk. `overflow`: while Kafka is unavailable or half of the memory is taken;
            `always`: before they are sent, so that they survive a kill of the process; `off`: never.
        spool_dir: Folder of the spools; each writer gets a folder `<prefix>/<writer>` in it, or, if the folder belongs
            to another user, `uid-<number of this user>/<prefix>/<writer>`.
        spool_bytes: Maximum size of a writer's spool, bytes.
        memory_bytes: Maximum size of the events in memory, bytes.
        when_full: Behaviour of a log call when memory and spool are full. `block`: wait for space, for `block_seconds`
            at most, then drop the event and count it; `drop_oldest`: drop the oldest events of the spool to make space
            for new ones, and count them; `raise`: raise `SpoolFull`.
        block_seconds: Total time that log calls wait for space during one outage, seconds; see `when_full`.
        projection: Name of a projection to read, made by `trialstream rebuild --until`; empty means the live one. A
            protocol with a named projection is read-only; consumers ignore the setting.
        indexes: Paths of trials that consumers index, separated by commas, such as `parameters,metrics.loss.last`; a
            field of users' keys, such as `parameters`, is indexed by each key.
        dashboard: Address of a dashboard, of which `Tracker.url` is a page; empty if there is none.
        kafka_security_protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        kafka_sasl_mechanism: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`; empty means `PLAIN`.
        kafka_sasl_username: SASL user.
        kafka_sasl_password: SASL password; never shown by `repr`.
        kafka_ssl_cafile: PEM file of the trusted certificate authorities; empty means the system's.
        kafka_ssl_certfile: PEM file of the client certificate.
        kafka_ssl_keyfile: PEM file of the client key; empty if `kafka_ssl_certfile` has it.
        kafka_ssl_password: Password of the client key, if that is encrypted; never shown by `repr`.
        kafka_token: Function that returns the token of `OAUTHBEARER`, called for each connection. A plain function runs
            in a thread, a coroutine function in the event loop of the I/O thread; both have 10 s. It is not read from
            the environment.
        kafka_token_file: File with the token of `OAUTHBEARER`, read for each connection.
    """

    kafka: str = "127.0.0.1:9092"
    mongo: str = field(default="mongodb://127.0.0.1:27017/?replicaSet=trialstream", repr=False)
    mongo_password: str = field(default="", repr=False)
    mongo_ssl_password: str = field(default="", repr=False)
    prefix: str = "trialstream"
    partitions: int = 8
    replication: int = 1
    offline: bool = False
    read_only: bool = False
    sync_writes: bool = False
    spool: str = "overflow"
    spool_dir: FilePath = "trialstream-spool"
    spool_bytes: int = 4 * 1024**3
    memory_bytes: int = 64 * 1024**2
    when_full: str = "block"
    block_seconds: float = 5.0
    projection: str = ""
    indexes: str = ""
    dashboard: str = ""
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str = ""
    kafka_sasl_username: str = ""
    kafka_sasl_password: str = field(default="", repr=False)
    kafka_ssl_cafile: FilePath = ""
    kafka_ssl_certfile: FilePath = ""
    kafka_ssl_keyfile: FilePath = ""
    kafka_ssl_password: str = field(default="", repr=False)
    kafka_token: Tokens = field(default=None, repr=False)
    kafka_token_file: FilePath = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            self._check_type(each)
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(f"prefix: expected 1 to 48 letters, digits, '_' or '-', got {self.prefix!r}")
        if self.prefix.lower() in _RESERVED_PREFIXES or self.prefix.startswith("__"):
            raise ConfigError(
                f"prefix: expected a name of your own, got {self.prefix!r}: MongoDB reserves the databases admin, "
                "config and local, and Kafka reserves topics that begin with __"
            )
        if self.projection and not _PROJECTION.fullmatch(self.projection):
            raise ConfigError(
                "projection: expected a letter, then letters, digits, '_' or '-', 64 characters at most, got "
                f"{self.projection!r}"
            )
        check_servers(self.kafka)
        if self.mongo and not self.mongo.startswith(("mongodb://", "mongodb+srv://")):
            raise ConfigError("mongo: expected a URI that begins with mongodb:// or mongodb+srv://")
        for name, known in (
            ("kafka_security_protocol", _SECURITY_PROTOCOLS),
            ("kafka_sasl_mechanism", _SASL_MECHANISMS),
            ("spool", _SPOOL_MODES),
            ("when_full", _WHEN_FULL),
        ):
            if getattr(self, name) not in known:
                wanted = ", ".join(each for each in known if each)
                raise ConfigError(f"{name}: expected one of {wanted}, got {getattr(self, name)!r}")
        try:
            Path(self.spool_dir).expanduser()
        except RuntimeError as error:
            raise ConfigError(f"spool_dir: expected the path of a folder, got {self.spool_dir!r}: {error}") from None
        if self.spool == "off" and self.offline:
            raise ConfigError("spool: cannot be 'off' when offline is set, since all events then go into the spool")
        if self.spool == "off" and self.when_full == "drop_oldest":
            raise ConfigError("when_full: 'drop_oldest' drops events of the spool, but spool is 'off'")
        for name in ("spool_bytes", "memory_bytes"):
            if getattr(self, name) < _MIN_BYTES:
                raise ConfigError(f"{name}: expected at least {_MIN_BYTES} (16 MiB), got {getattr(self, name)}")
        if not 0 <= self.block_seconds < math.inf:
            raise ConfigError(f"block_seconds: expected a finite number of 0 or more, got {self.block_seconds}")
        for name, most in _MAX_COUNTS.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: expected at least 1 and at most {most}, got {getattr(self, name)}")

    def _check_type(self, each: Field[Any]) -> None:
        """Check a field by its annotation; a number or path of another class is replaced by the plain one."""
        value, kind = getattr(self, each.name), _TYPES[str(each.type)]
        try:
            checked = kind.check(value)
        except (TypeError, ValueError, OverflowError) as error:
            # Values of fields outside of `repr` may hold credentials.
            given = repr(value) if each.repr and not isinstance(error, OverflowError) else type(value).__name__
            raise ConfigError(f"{each.name}: expected {kind.wanted}, got {given}") from None
        object.__setattr__(self, each.name, checked)

    @classmethod
    def from_env(cls, **given: Any) -> Config:
        """Take each setting from the arguments, then from `TRIALSTREAM_<NAME>`, then from the defaults.

        A secret is taken from the file that `TRIALSTREAM_<NAME>_FILE` names if that is set.

        Args:
            **given: Fields by name; None means not given.

        Returns:
            The checked settings.

        Raises:
            ConfigError: A setting is invalid; the message names it.
        """
        settings = {name: value for name, value in given.items() if value is not None}
        for each in fields(cls):
            kind, variable = _TYPES[str(each.type)], f"TRIALSTREAM_{each.name.upper()}"
            if each.name in settings or kind.parse is None:
                continue
            text = os.environ.get(variable) if each.repr else secret_of(variable)
            if text is None:
                continue
            try:
                settings[each.name] = kind.parse(text)
            except (ValueError, KeyError):
                raise ConfigError(f"{variable}: expected {kind.wanted}, got {text!r}") from None
        return cls(**settings)

    @property
    def can_read(self) -> bool:
        """Whether a protocol with these settings has a MongoDB to read from."""
        return bool(self.mongo) and not self.offline

    @property
    def mongo_hosts(self) -> str:
        """Hosts of MongoDB, as in the URI but without credentials and options."""
        return self._mongo_place().rpartition("@")[2]

    @property
    def mongo_user(self) -> str:
        """User of MongoDB as in the URI, with `:` and the password if the URI has one; empty if it has none."""
        return self._mongo_place().rpartition("@")[0]

    def _mongo_place(self) -> str:
        return self.mongo.partition("://")[2].partition("?")[0].partition("/")[0]

    @property
    def trials_topic(self) -> str:
        """Topic of the events of trials, keyed by trial hash."""
        return f"{self.prefix}.trials"

    @property
    def registry_topic(self) -> str:
        """Topic of the events of projects and groups; one partition."""
        return f"{self.prefix}.registry"

    @property
    def schemas_topic(self) -> str:
        """Compacted topic of the schemas, keyed by fingerprint."""
        return f"{self.prefix}.schemas"

    @property
    def database(self) -> str:
        """MongoDB database of the projections, which also holds the pointer to the live one."""
        return self.prefix

    @property
    def spool_folder(self) -> Path:
        """Absolute path of `spool_dir`."""
        return Path(self.spool_dir).expanduser().absolute()

    @property
    def spools(self) -> Path:
        """Folder of this user's spools of this prefix, with one folder for each writer."""
        return own_folder(self.spool_folder) / self.prefix

    @property
    def named_projection(self) -> Namespace:
        """Place of the named projection in MongoDB."""
        return Namespace(self.database, f"~{self.projection}")

    @property
    def consumer_group(self) -> str:
        """Kafka consumer group of the consumers that share the partitions."""
        return f"{self.prefix}.fold"

    def kafka_client(self) -> dict[str, Any]:
        """Return the settings that every client of Kafka gets.

        Returns:
            Keyword arguments for aiokafka.

        Raises:
            ConfigError: Settings of TLS and authentication do not fit together, or a certificate or key file cannot be
                read.
        """
        from trialstream.kafka_security import security_settings  # noqa: PLC0415 (heavy)

        return {
            "bootstrap_servers": self.kafka,
            # aiokafka's default of 40 s would make every stop() against a dead broker that slow.
            "request_timeout_ms": 10_000,
            **security_settings({each.name: getattr(self, each.name) for each in fields(self)}),
        }


def check_timeout(timeout: float) -> float:
    """Check the timeout of a protocol.

    Args:
        timeout: Seconds.

    Returns:
        The timeout as a float.

    Raises:
        ConfigError: It is not a number of 0 or more.
    """
    try:
        seconds = _number(timeout)
    except (TypeError, OverflowError):
        raise ConfigError(f"timeout: expected a number of seconds, got {type(timeout).__name__}") from None
    if not seconds >= 0:
        raise ConfigError(f"timeout: expected 0 or more seconds, got {seconds}")
    return seconds
