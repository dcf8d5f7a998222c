"""Endpoints of the API: an async function each, whose signature declares its parameters, its body and its answer.

    async def trial(context: Context, uid: str) -> TrialDetail:
        '''A trial with all of its fields.'''

    ENDPOINTS = (Endpoint("GET", "/trials/{uid}", trial),)

- The first parameter is the `Context`. A parameter `request: Request` gets the request.
- Parameters that are named in the path are part of it; a parameter `body` is the JSON body, a `TypedDict`; all others
  are parameters of the query string: `str`, `int`, `float`, `bool`, a `Literal`, any of these `| None`, or a list of
  texts, which may be repeated. `Annotated[int, Limits("Number of rows.", 1, 1000)]` describes and bounds one.
- The function returns what is sent as JSON, of the type that it is annotated with, or a `Response`, or None. It raises
  a `Refusal`, or an error of trialstream, which becomes one (`refusals.py`).
- Its docstring describes the endpoint in the OpenAPI document.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from starlette.requests import Request

from trialstream_console.dashboard.limits import read_body
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.shapes import checked

__all__ = ["COLUMNS_MEDIA", "EVENTS_MEDIA", "Endpoint"]

COLUMNS_MEDIA = "application/vnd.trialstream.columns"
"""Media type of a header and columns of doubles: see `encoding.columns`."""
EVENTS_MEDIA = "text/event-stream"
"""Media type of server-sent events."""

_BODY_MEDIA = "application/json"
_FLAGS = {"1": True, "true": True, "0": False, "false": False, "": False}


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of the API.

    Attributes:
        method: Method of HTTP.
        path: Path below `/api/v1`, with parameters in braces.
        function: The function: see the module's docstring.
        header: Type of the header of an answer with columns; None for other answers.
        media: Media type of the answer.
        places: Places of which a request takes one: `expensive` for what takes long, so that few such run at once;
            `large` for answers that may be large, so that few are in memory at once; `other`; None for what pages show
            the state by, which does not wait.
        etag: Whether the answer has an ETag, so that an unchanged one is not sent again.
        writes: Whether the endpoint writes; it is refused unless the dashboard may write, and needs the header
            `X-Trialstream: 1`, which pages of other sites cannot send.
    """

    method: Literal["GET", "POST"]
    path: str
    function: Callable[..., Awaitable[Any]]
    header: Any = None
    media: str = _BODY_MEDIA
    places: Literal["expensive", "large", "other"] | None = "other"
    etag: bool = False
    writes: bool = False

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def answer(self) -> Any:
        """Type of the answer; of one with columns, that of the header."""
        return self.header if self.header is not None else self._hints["return"]

    @property
    def status(self) -> str:
        """Status of the answer: 204 of a function that returns None."""
        return "204" if self.answer is type(None) else "200"

    @cached_property
    def in_path(self) -> dict[str, Any]:
        """Types of the parameters in the path."""
        return {name: kind for name, kind in self._parameters.items() if f"{{{name}}}" in self.path}

    @cached_property
    def in_query(self) -> dict[str, tuple[Any, Any]]:
        """Types and defaults of the parameters in the query string; the default `inspect.Parameter.empty` is none."""
        signature = inspect.signature(self.function).parameters
        return {
            name: (kind, signature[name].default)
            for name, kind in self._parameters.items()
            if name not in self.in_path and name != "body"
        }

    @cached_property
    def body(self) -> Any:
        """Type of the body; None without one."""
        return self._parameters.get("body")

    @cached_property
    def _takes_request(self) -> bool:
        return "request" in inspect.signature(self.function).parameters

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        names = list(inspect.signature(self.function).parameters)[1:]
        return {name: self._hints[name] for name in names if name != "request"}

    async def arguments(self, request: Request) -> dict[str, Any]:
        """Return the arguments of the function for a request, besides the context.

        Raises:
            Refusal: A parameter is unknown, missing, or has another type.
        """
        found: dict[str, Any] = {name: request.path_params[name] for name in self.in_path}
        for name in request.query_params:
            if name not in self.in_query:
                expected = ", ".join(self.in_query) or "none"
                raise Refusal("query", f"parameter {name}: expected one of {expected}", place=name)
        for name, (kind, default) in self.in_query.items():
            texts = request.query_params.getlist(name)
            if texts:
                found[name] = checked(_parsed(texts, kind, name), kind, name)
            elif default is inspect.Parameter.empty:
                raise Refusal("query", f"{name}: expected a value, got none", place=name)
        if self.body is not None:
            found["body"] = checked(await _json_body(request), self.body, "")
        if self._takes_request:
            found["request"] = request
        return found


def _parsed(texts: list[str], kind: Any, name: str) -> Any:
    """Convert the texts of a parameter to its type as far as possible; `checked` then reports what is left."""
    while get_origin(kind) not in (None, Union, types.UnionType, list, Literal):
        kind = get_args(kind)[0]  # Annotated
    if get_origin(kind) is list:
        return texts
    if len(texts) > 1:
        raise Refusal("query", f"{name}: expected one value, got {len(texts)}", place=name)
    text, kinds = texts[0], {kind, *get_args(kind)}
    if bool in kinds:
        return _FLAGS.get(text.lower(), text)
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                continue
    return text


async def _json_body(request: Request) -> Any:
    # Pages of other sites cannot send this type without permission.
    media = request.headers.get("content-type", "").partition(";")[0].strip()
    if media != _BODY_MEDIA:
        raise Refusal("query", f"content-type: expected {_BODY_MEDIA}, got {media or 'none'}", place="content-type")
    try:
        return json.loads(await read_body(request), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal("query", f"body: expected JSON: {error}") from None


def _refuse_constant(name: str) -> Mapping[str, Any]:
    raise ValueError(f"{name} is not allowed")
