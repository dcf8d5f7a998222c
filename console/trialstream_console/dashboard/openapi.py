"""The description of the API as an OpenAPI document, made from the declarations of the endpoints."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from trialstream_console.dashboard.endpoints import COLUMNS_MEDIA, EVENTS_MEDIA, Endpoint
from trialstream_console.dashboard.refusals import ApiError
from trialstream_console.dashboard.shapes import Schema, schema_of

__all__ = ["document"]

_COLUMNS = (
    "The length of the header as a 32-bit number, the header as JSON, zero bytes up to a multiple of 8, and doubles, "
    "all in little-endian order. The type of the header is in `x-header`; places in it are counted in doubles."
)


def document(endpoints: Iterable[Endpoint], version: str, prefix: str) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        endpoints: The endpoints.
        version: Version of trialstream.
        prefix: Path of the API.
    """
    named: dict[str, Schema] = {}
    refusal = {"description": "An error.", "content": {"application/json": {"schema": schema_of(ApiError, named)}}}
    paths: dict[str, Any] = {}
    for each in endpoints:
        paths.setdefault(prefix + each.path, {})[each.method.lower()] = _operation(each, named) | {
            "responses": {each.status: _answer(each, named), "default": refusal}
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "trialstream dashboard",
            "version": version,
            "description": "Times are microseconds since 1970 UTC. A logged value that JSON lacks is an object: see "
            "docs/dashboard.md.",
        },
        "paths": paths,
        "components": {
            "schemas": named,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "trialstream_dashboard"},
            },
        },
        "security": [{}, {"token": []}, {"cookie": []}],
    }


def _operation(endpoint: Endpoint, named: dict[str, Schema]) -> dict[str, Any]:
    text = inspect.getdoc(endpoint.function) or ""
    summary, _, rest = text.partition("\n")
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema_of(kind, named)}
        for name, kind in endpoint.in_path.items()
    ]
    for name, (kind, default) in endpoint.in_query.items():
        schema = schema_of(kind, named)
        described = {"description": schema.pop("description")} if "description" in schema else {}
        is_required = default is inspect.Parameter.empty
        if not is_required and default is not None:
            schema["default"] = list(default) if isinstance(default, tuple) else default
        parameters.append({"name": name, "in": "query", "required": is_required, "schema": schema, **described})
    found: dict[str, Any] = {
        "operationId": endpoint.function.__name__,
        "summary": summary.rstrip("."),
        "description": rest.partition("Args:")[0].strip(),
        "parameters": parameters,
    }
    if endpoint.body is not None:
        schema = schema_of(endpoint.body, named)
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return found


def _answer(endpoint: Endpoint, named: dict[str, Schema]) -> dict[str, Any]:
    if endpoint.status == "204":
        return {"description": "Done."}
    if endpoint.media == COLUMNS_MEDIA:
        header = schema_of(endpoint.answer, named)
        binary = {"type": "string", "format": "binary"}
        return {"description": _COLUMNS, "content": {COLUMNS_MEDIA: {"schema": binary, "x-header": header}}}
    if endpoint.media == EVENTS_MEDIA:
        events = schema_of(endpoint.answer, named)
        content = {EVENTS_MEDIA: {"schema": {"type": "string"}, "x-events": events}}
        return {"description": "Server-sent events, of the types in `x-events`.", "content": content}
    return {"description": "The answer.", "content": {endpoint.media: {"schema": schema_of(endpoint.answer, named)}}}
