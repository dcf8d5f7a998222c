"""Fixtures on servers with encryption and logins, beside ones without: for connections that fail, and for secrets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from logins.secure_servers import SecureServers, secure_servers


@pytest.fixture(scope="package")
def servers(tmp_path_factory) -> Iterator[SecureServers]:
    """Kafka and mongod, with and without TLS and authentication; they end with the tests of this folder."""
    with secure_servers(tmp_path_factory.mktemp("secure")) as servers:
        yield servers
