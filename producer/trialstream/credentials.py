"""Passwords and keys: secrets that lie in files, and keys that are encrypted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trialstream_schemas.errors import ConfigError

from trialstream.files import open_file, read_limited

if TYPE_CHECKING:
    import ssl

__all__ = ["load_key", "read_secret", "secret_of"]

# Tokens of identity providers with many groups reach a few KiB; a larger file is another one.
_MAX_BYTES = 64 * 1024


def secret_of(variable: str) -> str | None:
    """Return a secret of the environment: that of a variable, or that of the file which `<variable>_FILE` names.

    Args:
        variable: Name of the variable.

    Returns:
        The secret; None if neither is set. An empty variable counts as not set beside a file.

    Raises:
        ConfigError: Both are set, or the file cannot be read; the message has no secret.
    """
    text, path = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
    if not path:
        return text
    if text:
        raise ConfigError(f"{variable}: cannot be set together with {variable}_FILE: remove one of them")
    return read_secret(f"{variable}_FILE", path)


def read_secret(name: str, path: str) -> str:
    """Read a file that holds nothing but a secret.

    Links are followed, since mounted secrets are links; a FIFO or a device is refused without waiting for it.

    Args:
        name: Setting that names the file, for errors.
        path: Path of the file.

    Returns:
        The content without the line break at its end.

    Raises:
        ConfigError: It is not a readable, regular file of 1 byte to 64 KiB of UTF-8; the message has the name and the
            path, and nothing of the content.
    """
    try:
        file = open_file(path, follow=True)
        try:
            content = read_limited(file, _MAX_BYTES)
        finally:
            os.close(file)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{name}: cannot read {path!r}: {reason}") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{name}: expected at most {_MAX_BYTES} bytes, got a larger file: {path!r}")
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: expected UTF-8, got other bytes in {path!r}") from None
    if not text:
        raise ConfigError(f"{name}: expected a secret, got an empty file: {path!r}")
    return text


def load_key(context: ssl.SSLContext, certfile: str, keyfile: str, password: str, setting: str) -> None:
    """Load a client certificate and its key. Nobody is prompted for the password of an encrypted key.

    Args:
        context: TLS settings that get both.
        certfile: PEM file of the certificate.
        keyfile: PEM file of the key; empty if the first file has it.
        password: Password of the key; empty if there is none.
        setting: Setting of the password, for errors.

    Raises:
        ConfigError: The key is encrypted, and the password is missing or wrong.
        OSError: A file cannot be read, or has no certificate or no key; `ssl.SSLError` is one.
    """
    is_encrypted = False

    def given() -> str:
        nonlocal is_encrypted
        is_encrypted = True
        if not password:
            raise ConfigError(
                f"{setting}: expected the password of the encrypted key in {keyfile or certfile!r}, got none"
            )
        return password

    try:
        context.load_cert_chain(certfile, keyfile or None, given)
    except ConfigError:  # is a ValueError
        raise
    except ValueError:  # OpenSSL's limit
        raise ConfigError(f"{setting}: expected at most 1024 bytes, got a longer password") from None
    except OSError as error:
        if not is_encrypted or getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise
        raise ConfigError(f"{setting}: the password does not open the key in {keyfile or certfile!r}") from None
