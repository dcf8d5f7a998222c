"""The actions of a rule that begins to hold: a webhook, a command, or a line of the log.

Names of trials and messages of errors are anybody's: in the text they are bounded, on one line and without control
characters, and a webhook's text has no markup of Slack, which could call everybody. The URL of a webhook is a secret:
it is in no message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import anyio
from trialstream.credentials import read_secret, secret_of
from trialstream_schemas.errors import ConfigError
from trialstream_schemas.messages import printable, shortened

from trialstream_console.alerts.tables import Table

__all__ = ["Action", "ActionFailed", "Alert", "Log", "read_action"]

logger = logging.getLogger("trialstream.alerts")

_MAX_TEXT = 2000
_MAX_TIMEOUT = 300.0
_MAX_RETRIES = 10
# Pauses between the attempts of a webhook, seconds.
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class ActionFailed(Exception):
    """An action did not succeed; the message has no secret."""


@dataclass(frozen=True)
class Alert:
    """A rule that has begun to hold.

    Attributes:
        rule: Name of the rule.
        uid: Uid of the trial; empty for a rule about the servers.
        name: Name of the trial, or of what the rule is about.
        message: What is the matter.
    """

    rule: str
    uid: str
    name: str
    message: str

    @property
    def text(self) -> str:
        """The alert on one line."""
        what = f"trial {shortened(self.name, 200)} ({self.uid})" if self.uid else self.name
        return shortened(printable(f"{self.rule}: {what}: {self.message}", one_line=True), _MAX_TEXT)


class Action(ABC):
    """Something that is done for an alert."""

    @abstractmethod
    async def run(self, alert: Alert) -> None:
        """Do it.

        Args:
            alert: The alert.

        Raises:
            ActionFailed: It did not succeed.
        """


@dataclass(frozen=True)
class Log(Action):
    """Logs a warning."""

    async def run(self, alert: Alert) -> None:
        """See `Action`."""
        logger.warning("%s", alert.text)


@dataclass(frozen=True)
class Webhook(Action):
    """Posts `{"text": …}`, which Slack and many others take.

    Attributes:
        url: Where to; a secret.
        timeout: Maximum time of an attempt, seconds.
        retries: Number of attempts after the first.
    """

    url: str = field(repr=False)
    timeout: float
    retries: int

    async def run(self, alert: Alert) -> None:
        """See `Action`."""
        body = json.dumps({"text": alert.text.translate(_MARKUP)}).encode()
        for attempt in range(self.retries + 1):
            fault, may_pass = await self._post(body)
            if not fault:
                return
            if not may_pass or attempt == self.retries:
                break
            await anyio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
        raise ActionFailed(f"the webhook did not take it: {fault}")

    async def _post(self, body: bytes) -> tuple[str, bool]:
        """Send a request; return what is wrong, and whether it may pass."""
        with anyio.move_on_after(self.timeout):  # that of a socket begins again with each byte
            return await anyio.to_thread.run_sync(self._send, body, abandon_on_cancel=True)
        return "no answer in time", True

    def _send(self, body: bytes) -> tuple[str, bool]:
        headers = {"Content-Type": "application/json", "User-Agent": "trialstream"}
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 (checked: http or https)
        try:
            with _opener.open(request, timeout=self.timeout):
                return "", False
        except urllib.error.HTTPError as error:
            error.close()
            return f"status {error.code}", error.code == 429 or error.code >= 500
        except urllib.error.URLError as error:
            reason = error.reason
            return getattr(reason, "strerror", None) or type(reason).__name__, True
        except (OSError, HTTPException, ValueError) as error:  # its text may have the URL
            return type(error).__name__, True


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect as an error: it could lead anywhere."""

    def redirect_request(self, *_: Any) -> None:
        """Return no request."""


_opener = urllib.request.build_opener(_NoRedirects)


@dataclass(frozen=True)
class Command(Action):
    """Runs a program, with the alert in variables of its environment.

    Attributes:
        command: The program and its arguments; no shell.
        timeout: Maximum time, seconds; then the program and its children are killed.
    """

    command: tuple[str, ...]
    timeout: float

    async def run(self, alert: Alert) -> None:
        """See `Action`."""
        variables = {"RULE": alert.rule, "TRIAL": alert.uid, "NAME": alert.name, "TEXT": alert.text}
        environment = dict(os.environ) | {
            f"TRIALSTREAM_ALERT_{key}": shortened(printable(text, one_line=True), _MAX_TEXT)
            for key, text in variables.items()
        }
        nothing = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, env=environment, stdin=nothing, stdout=nothing, start_new_session=True
            )
        except OSError as error:
            raise ActionFailed(f"{self.command[0]}: {error.strerror or error}") from None
        code = None
        try:
            with anyio.move_on_after(self.timeout):
                code = await process.wait()
        finally:
            if code is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with anyio.CancelScope(shield=True):
                    await process.wait()
        if code is None:
            raise ActionFailed(f"{self.command[0]}: not finished after {self.timeout:g} s")
        if code:
            raise ActionFailed(f"{self.command[0]}: exit code {code}")


def read_action(table: Table) -> Action:
    """Read an action.

    Args:
        table: Its table.

    Returns:
        The action.

    Raises:
        ConfigError: A key is wrong; the message names it.
    """
    kind = table.text("kind", ("webhook", "command", "log"))
    action: Action = Log()
    if kind == "webhook":
        url = _url(table)
        action = Webhook(url, _timeout(table, 10.0), table.count("retries", 3, most=_MAX_RETRIES))
    elif kind == "command":
        action = Command(table.texts("command"), _timeout(table, 30.0))
    table.finish()
    return action


def _timeout(table: Table, default: float) -> float:
    seconds = table.seconds("timeout", default)
    if seconds > _MAX_TIMEOUT:
        raise table.fail("timeout", f"at most {_MAX_TIMEOUT:g} s")
    return seconds


def _url(table: Table) -> str:
    """Read the URL of a webhook from the variable or the file that the table names."""
    has_variable, has_file = table.has("url_env"), table.has("url_file")
    if has_variable == has_file:
        raise ConfigError(
            f"{table.name}: expected the key url_env (a variable) or url_file (a file), got "
            f"{'both' if has_file else 'neither'}: a URL with a token does not belong into the rules"
        )
    if has_file:
        place, url = "url_file", read_secret(f"{table.name}: url_file", table.text("url_file"))
    else:
        place, url = "url_env", secret_of(table.text("url_env")) or ""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii() and url.isprintable()
        is_url = is_url and " " not in url and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(f"{table.name}: {place}: expected it to hold an http or https URL, which is not shown here")
    return url
