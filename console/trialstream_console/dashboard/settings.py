"""The settings of a dashboard, which its workers read from the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field

from trialstream.credentials import read_secret, secret_of
from trialstream_schemas.errors import ConfigError

__all__ = ["Settings"]

_PREFIX = "TRIALSTREAM_DASHBOARD_"
_NAMES = ("HOST", "PORT", "PROXY_HEADER", "WRITES", "CACHE_MB")
_LEAST_TOKEN = 16  # characters: a shorter one can be guessed
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CACHE_MB = 1024
_MB = 2**20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a dashboard.

    Attributes:
        host: Address to which the server is bound.
        port: Port; 0 for any that is free.
        token: Token that every request must have, at least 16 characters; empty for none. Never shown by `repr`.
        proxy_header: Name of the header by which a trusted proxy names the user that it has let in; empty for none.
        writes: Whether tags and notes may be written.
        cache_bytes: Memory of decoded histories in each worker, bytes.

    Raises:
        ConfigError: A setting is invalid, or the server is bound to more than this machine, and neither a token nor a
            header of a proxy is set.
    """

    host: str = "127.0.0.1"
    port: int = 8790
    token: str = field(default="", repr=False)
    proxy_header: str = ""
    writes: bool = False
    cache_bytes: int = _CACHE_MB * _MB

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port: expected 0 to 65535, got {self.port}")
        if self.token and (len(self.token) < _LEAST_TOKEN or not self.token.isascii() or not self.token.isprintable()):
            raise ConfigError(f"{_PREFIX}TOKEN: expected at least {_LEAST_TOKEN} printable characters of ASCII")
        if self.proxy_header and not _HEADER.fullmatch(self.proxy_header):
            raise ConfigError(f"{_PREFIX}PROXY_HEADER: expected the name of a header, got {self.proxy_header!r}")
        if not self.is_loopback and not self.is_guarded:
            raise ConfigError(
                f"host: {self.host} can be reached from other machines: set {_PREFIX}TOKEN or {_PREFIX}TOKEN_FILE, or, "
                f"behind a proxy that checks logins, {_PREFIX}PROXY_HEADER to the header in which it names the user"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether the server can be reached from this machine only."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def is_guarded(self) -> bool:
        """Whether a request must have a token, or come through the proxy."""
        return bool(self.token or self.proxy_header)

    @property
    def address(self) -> str:
        """Address of the page on this machine."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    def environment(self) -> dict[str, str]:
        """Return the settings as the variables that `from_env` reads."""
        return {
            f"{_PREFIX}HOST": self.host,
            f"{_PREFIX}PORT": str(self.port),
            f"{_PREFIX}TOKEN": self.token,
            f"{_PREFIX}TOKEN_FILE": "",
            f"{_PREFIX}PROXY_HEADER": self.proxy_header,
            f"{_PREFIX}WRITES": "1" if self.writes else "",
            f"{_PREFIX}CACHE_MB": str(self.cache_bytes // _MB),
        }

    @classmethod
    def from_env(
        cls,
        *,
        host: str | None = None,
        port: int | None = None,
        token_file: str | None = None,
        writes: bool = False,
    ) -> Settings:
        """Read the settings from the environment.

        Args:
            host: Replaces `TRIALSTREAM_DASHBOARD_HOST`, if given.
            port: Replaces `TRIALSTREAM_DASHBOARD_PORT`, if given.
            token_file: Replaces `TRIALSTREAM_DASHBOARD_TOKEN_FILE`, if given.
            writes: Allows writing, also without `TRIALSTREAM_DASHBOARD_WRITES`.

        Returns:
            The settings.

        Raises:
            ConfigError: A setting is invalid; the message names it.
        """
        given = {name: os.environ.get(_PREFIX + name, "") for name in _NAMES}
        if given["WRITES"] not in ("", "0", "1"):
            raise ConfigError(f"{_PREFIX}WRITES: expected 1 or 0, got {given['WRITES']!r}")
        for name in ("PORT", "CACHE_MB"):
            if given[name] and not (given[name].isascii() and given[name].isdecimal()):
                raise ConfigError(f"{_PREFIX}{name}: expected a whole number, got {given[name]!r}")
        default = cls()
        return cls(
            host=host or given["HOST"] or default.host,
            port=port if port is not None else int(given["PORT"] or default.port),
            token=_token(token_file),
            proxy_header=given["PROXY_HEADER"],
            writes=writes or given["WRITES"] == "1",
            cache_bytes=int(given["CACHE_MB"] or _CACHE_MB) * _MB,
        )


def _token(file: str | None) -> str:
    if file is not None:
        return read_secret("token_file", file)
    return secret_of(f"{_PREFIX}TOKEN") or ""
