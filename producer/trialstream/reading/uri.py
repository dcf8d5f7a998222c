"""The check of a MongoDB URI, without a connection and without DNS; of a plain one, without the driver too."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

from trialstream_schemas.errors import ConfigError

from trialstream.config import Config
from trialstream.credentials import load_key

__all__ = ["check_uri", "driver_options"]

# URIs of which it is known that the driver takes them: hosts, ports below 60000, and the name of a replica set.
_HOST = r"[A-Za-z0-9.-]+(:([1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
_PLAIN = re.compile(rf"mongodb://{_HOST}(,{_HOST})*(/(\?replicaSet=[A-Za-z0-9_-]+)?)?")
_KEY_FILE, _KEY_PASSWORD = "tlsCertificateKeyFile", "tlsCertificateKeyFilePassword"


def driver_options(config: Config) -> dict[str, Any]:
    """Check the settings of MongoDB, and return those that are not in its URI.

    Args:
        config: Where MongoDB is, and its passwords.

    Returns:
        Keyword arguments for the driver's client, beside the URI.

    Raises:
        ConfigError: The URI is invalid, or a password does not fit to it.
    """
    options: dict[str, Any] = {}
    if config.mongo_password:
        user, colon, _ = config.mongo_user.partition(":")
        if not user or colon:
            wanted = "without a password" if colon else "with a user"
            raise ConfigError(
                f"mongo_password: expected mongo to be a URI {wanted}, such as mongodb://user@host:27017/"
            )
        options["password"] = config.mongo_password
    if config.mongo_ssl_password:
        of_uri = _uri_options(config.mongo)
        if _KEY_FILE.lower() not in of_uri or _KEY_PASSWORD.lower() in of_uri:
            raise ConfigError(f"mongo_ssl_password: expected mongo to be a URI with {_KEY_FILE} and no {_KEY_PASSWORD}")
        options[_KEY_PASSWORD] = config.mongo_ssl_password
    check_uri(config.mongo, **options)
    return options


def check_uri(uri: str, **options: Any) -> None:
    """Check that the driver takes a URI. The URI is never part of the message, since it may hold credentials.

    Args:
        uri: The setting `mongo`.
        **options: Further arguments of the driver's client.

    Raises:
        ConfigError: The URI is malformed, its options contradict each other or name files that cannot be read, or its
            client key is encrypted and the password is missing or wrong.
    """
    if _PLAIN.fullmatch(uri):
        return
    if not uri:
        raise ConfigError("mongo: expected a URI, got an empty text: set TRIALSTREAM_MONGO to read or to fold")
    from pymongo import MongoClient  # noqa: PLC0415 (heavy)
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    _check_key(uri, options)
    try:
        # The driver warns of unknown options. To suppress that would not be safe in a thread.
        client: MongoClient[dict[str, Any]] = MongoClient(uri, connect=False, **options)
        client.close()
    except (PyMongoError, ValueError, TypeError, OSError) as error:  # the driver documents only the first two
        # With a user in the URI, the driver may take a part of a badly escaped password for a port or a database.
        reason = (
            "special characters in user and password must be written as %XX, and a password must be given, here or as "
            "mongo_password"
            if "@" in uri
            else str(error)
        )
        raise ConfigError(
            f"mongo: expected a URI such as mongodb://user:password@host:27017/?replicaSet=name, got one that "
            f"MongoDB's driver refuses: {reason}"
        ) from None


def _check_key(uri: str, options: dict[str, Any]) -> None:
    """Load the client key of a URI: the driver would prompt for the password of an encrypted one.

    Raises:
        ConfigError: The key cannot be loaded.
    """
    of_uri = _uri_options(uri)
    if not (path := of_uri.get(_KEY_FILE.lower())):
        return
    import ssl  # noqa: PLC0415 (heavy)

    password = options.get(_KEY_PASSWORD) or of_uri.get(_KEY_PASSWORD.lower(), "")
    try:
        load_key(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path, "", password, f"mongo_ssl_password or {_KEY_PASSWORD}")
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"mongo: {_KEY_FILE} {path!r}: {error}") from None


def _uri_options(uri: str) -> dict[str, str]:
    """Return the options of a URI by their names in lower case."""
    pairs = (each.partition("=") for each in re.split("[&;]", uri.partition("?")[2]))
    return {name.lower(): unquote_plus(text) for name, _, text in pairs}
