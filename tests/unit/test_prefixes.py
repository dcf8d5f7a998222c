"""Prefixes that name databases and topics of MongoDB and Kafka themselves are refused."""

from __future__ import annotations

import pytest
from trialstream.config import Config
from trialstream_schemas.errors import ConfigError


@pytest.mark.parametrize(
    "prefix",
    ["admin", "config", "local", "Admin", "LOCAL", "cOnfig", "__consumer_offsets", "__transaction_state", "__", "___x"],
)
def test_reserved_prefixes_are_refused(prefix, monkeypatch):
    """Databases of MongoDB are one name in any case, and Kafka's own topics begin with two underscores."""
    with pytest.raises(ConfigError, match=f"prefix: expected a name of your own, got '{prefix}'"):
        Config(prefix=prefix)
    monkeypatch.setenv("TRIALSTREAM_PREFIX", prefix)
    with pytest.raises(ConfigError, match="prefix: expected a name of your own"):
        Config.from_env()


@pytest.mark.parametrize("prefix", ["admins", "my-admin", "_x", "x__y", "localhost", "config2", "-"])
def test_other_prefixes_are_taken(prefix):
    """A name that only contains a reserved one is one's own."""
    assert Config(prefix=prefix).database == prefix
