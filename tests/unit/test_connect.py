"""Settings that `connect` checks before anything is opened, by the asynchronous and by the blocking protocol."""

from __future__ import annotations

import dataclasses
import math

import pytest
import trialstream as ts
import trialstream.sync
from trialstream.reading.mongo import MongoReader
from trialstream_consumer.projection.client import Connection


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """Remove all settings from the environment of the test."""
    for field in dataclasses.fields(ts.Config):
        monkeypatch.delenv(f"TRIALSTREAM_{field.name.upper()}", raising=False)


@pytest.fixture(params=[ts.connect, trialstream.sync.connect], ids=["async", "sync"])
def connect(request):
    """One of the two functions."""
    return request.param


URIS = [
    "mongodb://",
    "mongodb:///database",
    "mongodb://host:99999",
    "mongodb://host:port",
    "mongodb://a:1:2",
    "mongodb://[::1",
    "mongodb://a,,b",
    "mongodb://host/a b",
    "mongodb://host/?replicaSet",
    "mongodb://a,b/?directConnection=true",
    "mongodb://host/?tls=true&tlsCAFile=/nowhere.pem",
    "mongodb+srv://a.b.invalid:27017",
    "mongodb+srv://",
]


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("how", [{}, {"offline": True}, {"read_only": True}, {"projection": "july"}], ids=str)
def test_malformed_uris(connect, tmp_path, uri, how):
    """A URI that MongoDB's driver refuses is a ConfigError with the name of the setting, whatever the protocol."""
    with pytest.raises(ts.ConfigError, match=r"^mongo: expected a URI such as .*: \S"):
        connect(mongo=uri, spool_dir=str(tmp_path), **how)


@pytest.mark.parametrize("kind", [lambda config: MongoReader(config, 1.0), Connection], ids=["reader", "consumer"])
def test_malformed_uris_of_the_commands(kind):
    """The clients of the command line and of the consumer refuse the same URIs."""
    with pytest.raises(ts.ConfigError, match=r"^mongo: "):
        kind(ts.Config(mongo="mongodb://"))


@pytest.mark.parametrize(
    "uri", ["ada:hunter2/x@host", "ada:hunter2:x@host", "ada:1/hunter2 x@host", "ada:%hunter2@host"]
)
def test_no_credentials_in_messages(uri):
    """A message about a badly escaped URI has no part of it, nor has the exception's chain."""
    with pytest.raises(ts.ConfigError, match="%XX") as caught:
        ts.connect(mongo=f"mongodb://{uri}")

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "uri", ["mongodb+srv://a.b.invalid", "mongodb://ada:p%40w@a:1,b:2/?replicaSet=r", "mongodb://[::1]"]
)
def test_valid_uris(uri):
    """A URI is checked without a connection and without DNS."""
    assert isinstance(ts.connect(mongo=uri), ts.KafkaProtocol)


def test_unknown_options_of_a_uri():
    """The driver's warning of an unknown option is issued by `connect`, and is no error."""
    with pytest.warns(UserWarning, match="Unknown option: colour"):
        protocol = ts.connect(mongo="mongodb://host/?colour=red")

    assert isinstance(protocol, ts.KafkaProtocol)


@pytest.mark.parametrize("timeout", ["x", None, True, [], 10**400, -1, -math.inf, math.nan])
def test_timeouts(connect, timeout):
    """A timeout that is not a number of 0 or more is a ConfigError."""
    with pytest.raises(ts.ConfigError, match=r"^timeout: expected "):
        connect(timeout=timeout)
    with pytest.raises(ts.ConfigError, match=r"^timeout: expected "):
        connect(timeout=timeout, read_only=True)


@pytest.mark.parametrize("timeout", ["x", 10**400, math.nan])
def test_timeouts_of_a_commit(tmp_path, timeout):
    """The timeout of a commit is checked likewise; a negative one has passed already, as of a deadline."""
    with trialstream.sync.connect(offline=True, spool_dir=str(tmp_path)) as protocol:
        with pytest.raises((ts.InvalidType, ts.InvalidValue), match=r"^timeout: expected a number"):
            protocol.commit(timeout=timeout)
        protocol.new_trial(ts.Trial(name="t"))
        with pytest.raises(ts.CommitTimeout):
            protocol.commit(timeout=-1)


@pytest.mark.parametrize("how", [{"offline": True}, {"spool": "always"}], ids=str)
@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300, "/proc/nowhere"])
def test_impossible_spool_folders(connect, tmp_path, place, how):
    """If every event goes to disk, a folder that cannot be made is a ConfigError with the path."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ts.ConfigError, match=f"^spool_dir: expected a folder that can be written: .*{place[:20]}"):
        connect(spool_dir=str(tmp_path / place), **how)


def test_checked_spool_folders_are_not_created(tmp_path):
    """Only the first event creates the folder of the spool."""
    ts.connect(spool_dir=str(tmp_path / "a" / "b"), offline=True)

    assert list(tmp_path.iterdir()) == []


def test_spool_folders_that_may_stay_unused(tmp_path):
    """With `overflow`, a run may never need its spool: the folder is not checked."""
    (tmp_path / "file").write_bytes(b"")

    assert isinstance(ts.connect(spool_dir=str(tmp_path / "file")), ts.KafkaProtocol)


def test_sync_writes_drop_nothing(connect, tmp_path):
    """A protocol may not drop an event whose call waits for it."""
    with pytest.raises(ts.ConfigError, match=r"^sync_writes: cannot be set together with when_full='drop_oldest'"):
        connect(sync_writes=True, when_full="drop_oldest", spool_dir=str(tmp_path))


@pytest.mark.parametrize("how", [{"offline": True}, {"read_only": True}, {"projection": "july"}], ids=str)
def test_sync_writes_need_servers_and_a_consumer(connect, monkeypatch, tmp_path, how):
    """A protocol that waits for no event to be folded refuses `sync_writes`, also from the environment."""
    with pytest.raises(ts.ConfigError, match=r"^sync_writes: cannot be set together with offline, read_only or proj"):
        connect(sync_writes=True, spool_dir=str(tmp_path), **how)
    monkeypatch.setenv("TRIALSTREAM_SYNC_WRITES", "1")
    with pytest.raises(ts.ConfigError, match=r"^sync_writes: "):
        connect(spool_dir=str(tmp_path), **how)


def test_certificates(connect):
    """A certificate file that cannot be read is a ConfigError before anything is opened."""
    with pytest.raises(ts.ConfigError, match=r"kafka_ssl_cafile.*nowhere"):
        connect(kafka_security_protocol="SSL", kafka_ssl_cafile="/nowhere.pem")


def test_settings_without_servers_need_no_certificate(tmp_path):
    """Offline, the certificates of Kafka are not read: the machine may not have them."""
    settings = {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": "/nowhere.pem"}

    assert isinstance(ts.connect(offline=True, spool_dir=str(tmp_path), **settings), ts.KafkaProtocol)


@pytest.mark.parametrize("how", [{"read_only": True}, {"projection": "july"}, {"sync_writes": True}], ids=str)
def test_without_mongodb(connect, how):
    """A protocol without MongoDB only logs: settings that need it are refused, with the name of the setting."""
    connect(mongo="")
    with pytest.raises(ts.ConfigError, match=r"^mongo: expected a URI, got an empty text"):
        connect(mongo="", **how)
