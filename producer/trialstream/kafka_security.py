"""TLS and authentication of Kafka: arguments for aiokafka, whose log gets no credentials."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import aiokafka.conn
import anyio
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import OAuthAuthenticator
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import SaslAuthenticateRequest
from trialstream_schemas.errors import ConfigError

from trialstream.credentials import load_key, read_secret

__all__ = ["TokenError", "security_settings"]

_TLS = ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile", "kafka_ssl_password")
_USER = ("kafka_sasl_username", "kafka_sasl_password")
_TOKEN = ("kafka_token", "kafka_token_file")
# Of the settings of a key, only the certificate can be given alone.
_KEY = ("kafka_ssl_keyfile", "kafka_ssl_password")
# As long as a request to Kafka may take.
_TOKEN_SECONDS = 10.0
# RFC 6750 (b64token). A control character would end the token and begin an extension.
_TOKEN_TEXT = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class TokenError(KafkaError):
    """There is no token now, or the server refuses it: to aiokafka a failed connection, which it tries again."""


def security_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of aiokafka for TLS and authentication.

    Args:
        given: The settings `kafka_*` by name.

    Raises:
        ConfigError: Settings do not fit together, or a certificate or key file cannot be read.
    """
    protocol, mechanism = given["kafka_security_protocol"], given["kafka_sasl_mechanism"] or "PLAIN"
    has_tls, has_sasl = protocol.endswith("SSL"), protocol.startswith("SASL")
    _check_fit(given, protocol, mechanism, used=_used(mechanism, has_tls=has_tls, has_sasl=has_sasl))
    settings: dict[str, Any] = {"security_protocol": protocol}
    if has_tls:
        settings["ssl_context"] = _ssl_context(*(given[name] for name in _TLS))
    if has_sasl:
        logging.getLogger("aiokafka.conn").addFilter(_without_credentials)
        settings["sasl_mechanism"] = mechanism
        if mechanism == "OAUTHBEARER":
            # aiokafka offers no place for this; connections of other libraries go on as before.
            vars(aiokafka.conn)["OAuthAuthenticator"] = _Authenticator
            settings["sasl_oauth_token_provider"] = _Tokens(given["kafka_token"], given["kafka_token_file"])
        else:
            settings["sasl_plain_username"] = given["kafka_sasl_username"]
            settings["sasl_plain_password"] = given["kafka_sasl_password"]
    return settings


def _used(mechanism: str, *, has_tls: bool, has_sasl: bool) -> set[str]:
    """Return the names of the settings that have an effect."""
    of_mechanism = _TOKEN if mechanism == "OAUTHBEARER" else _USER
    return {*(_TLS if has_tls else ()), *(("kafka_sasl_mechanism", *of_mechanism) if has_sasl else ())}


def _check_fit(given: Mapping[str, Any], protocol: str, mechanism: str, used: set[str]) -> None:
    """Check that no setting is without effect, which its user takes for protection, and that none is missing."""
    for name in (*_TLS, "kafka_sasl_mechanism", *_USER, *_TOKEN):
        if given[name] and name not in used:
            how = f"kafka_security_protocol {protocol}" + (f" and {mechanism}" if protocol.startswith("SASL") else "")
            raise ConfigError(
                f"{name}: has no effect with {how}: remove it, or set the protocol or mechanism that uses it"
            )
    for name in _KEY:
        if given[name] and not given["kafka_ssl_certfile"]:
            raise ConfigError(f"{name}: expected kafka_ssl_certfile too, got none")
    if not used.isdisjoint(_USER):
        for name in _USER:
            if not given[name]:
                raise ConfigError(f"{name}: expected a value for kafka_sasl_mechanism {mechanism}, got none")
    if not used.isdisjoint(_TOKEN):
        count = sum(bool(given[name]) for name in _TOKEN)
        if count != 1:
            raise ConfigError(
                f"kafka_token: expected either kafka_token or kafka_token_file for OAUTHBEARER, got {count}"
            )


def _ssl_context(cafile: str, certfile: str, keyfile: str, password: str) -> ssl.SSLContext:
    at = f"kafka_ssl_cafile {cafile!r}"
    try:
        context = ssl.create_default_context(cafile=cafile or None)
        if certfile:
            at = f"kafka_ssl_certfile {certfile!r}, kafka_ssl_keyfile {keyfile!r}"
            load_key(context, certfile, keyfile, password, "kafka_ssl_password")
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{at}: {error}") from error
    return context


class _Tokens(AbstractTokenProvider):
    """The tokens of `kafka_token` or `kafka_token_file`: one for each connection, since tokens expire."""

    def __init__(self, source: Callable[[], Any] | None, path: str) -> None:
        self._name = "kafka_token_file" if source is None else "kafka_token"
        self._source = source or partial(read_secret, self._name, path)

    async def token(self) -> str:
        """Return a token.

        Raises:
            TokenError: The function raised an error, took too long, or returned something else.
        """
        found: object = None
        try:
            with anyio.move_on_after(_TOKEN_SECONDS) as waiting:
                found = await _called(self._source)
        except ConfigError as error:
            raise TokenError(str(error)) from error
        except Exception as error:
            raise TokenError(f"{self._name}: the function raised {type(error).__name__}: {error}") from error
        if waiting.cancelled_caught:
            raise TokenError(f"{self._name}: the function returned no token within {_TOKEN_SECONDS:g} s")
        if not isinstance(found, str):
            raise TokenError(f"{self._name}: expected a token as a str, got {type(found).__name__}")
        if not _TOKEN_TEXT.fullmatch(found):
            raise TokenError(
                f"{self._name}: expected a token of letters, digits and -._~+/=, got a str of length {len(found)} with "
                "other characters"
                if found
                else f"{self._name}: expected a token, got an empty str"
            )
        return found


class _Authenticator(OAuthAuthenticator):
    """Takes the refusal of a token for one.

    A server refuses a token by a further message, and fails the authentication at the next one of the client (RFC 7628,
    section 3.2.3). aiokafka sends none: to it the connection is authenticated. Its first request then gets an answer
    without content or with an error of its own kind, as if it were the request that is refused.
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        """Return the next message to the server; None at the end.

        Args:
            payload: The last message of the server; None before the first one.

        Raises:
            TokenError: There is no token, or the server has refused it.
        """
        if payload and isinstance(self._sasl_oauth_token_provider, _Tokens):
            raise TokenError("the server refuses the token of kafka_token or kafka_token_file")
        aiokafka_step: Callable[[bytes | None], Awaitable[tuple[bytes, bool] | None]] = super().step
        return await aiokafka_step(payload)


async def _called(function: Callable[[], Any]) -> object:
    """Call a function that may block, or a coroutine function."""
    if inspect.iscoroutinefunction(function):
        return await function()
    found = await asyncio.get_running_loop().run_in_executor(None, function)
    return await found if isinstance(found, Awaitable) else found


class _WithoutCredentials(logging.Filter):
    """Hides the messages of an authentication, which aiokafka logs with passwords, tokens and proofs at DEBUG.

    A filter must belong to the logger that is called: those of its parents are not applied.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the messages among the arguments of a record; return True."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(_hidden, record.args))
        return True


def _hidden(argument: object) -> object:
    if getattr(argument, "API_KEY", None) == SaslAuthenticateRequest.API_KEY:  # of requests and responses
        return f"{type(argument).__name__}(hidden)"
    return argument


_without_credentials = _WithoutCredentials()
