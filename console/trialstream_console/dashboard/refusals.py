"""Errors as answers: every endpoint answers an error with one JSON object, `{"error": {"code": …, "message": …}}`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias, TypedDict

from trialstream_schemas.errors import (
    InvalidType,
    InvalidValue,
    ItemNotFound,
    KafkaUnavailable,
    MongoUnavailable,
    Offline,
    ProjectionIsReadOnly,
    QueryError,
    QueryTimeout,
    TrialStreamError,
)

__all__ = ["ApiError", "Code", "ErrorBody", "Refusal", "refusal_of"]

Code: TypeAlias = Literal[
    "query",
    "not_found",
    "unauthorized",
    "too_many",
    "too_large",
    "too_slow",
    "mongo_away",
    "kafka_away",
    "read_only",
    "internal",
]

_STATUS: dict[Code, int] = {
    "query": 400,
    "unauthorized": 401,
    "read_only": 403,
    "not_found": 404,
    "too_large": 413,
    "too_many": 429,
    "internal": 500,
    "mongo_away": 503,
    "kafka_away": 503,
    "too_slow": 504,
}
_CODES: tuple[tuple[type[TrialStreamError], Code], ...] = (
    (QueryError, "query"),
    (InvalidValue, "query"),
    (InvalidType, "query"),
    (ItemNotFound, "not_found"),
    (QueryTimeout, "too_slow"),  # before its base class
    (MongoUnavailable, "mongo_away"),
    (KafkaUnavailable, "kafka_away"),
    (Offline, "kafka_away"),
    (ProjectionIsReadOnly, "read_only"),
)


class ErrorBody(TypedDict):
    """An error of an answer.

    Attributes:
        code: Kind of the error.
        message: What was expected, what came, and what to do.
        place: Parameter, or path in the body.
        column: Place of the error in the text of a query, from 0.
    """

    code: Code
    message: str
    place: NotRequired[str]
    column: NotRequired[int]


class ApiError(TypedDict):
    """The body of an answer that is an error."""

    error: ErrorBody


class Refusal(Exception):
    """A request that is answered with an error.

    Args:
        code: Kind of the error.
        message: What was expected, what came, and what to do.
        place: Parameter, or path in the body; empty if the error has none.
        column: Place of the error in the text of a query, from 0; None if the error has none.
        retry_after: Time after which the request may be sent again, seconds; None if that is unknown.

    Attributes:
        status: Status of the answer.
        retry_after: As the argument.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        place: str = "",
        column: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = _STATUS[code]
        self.retry_after = retry_after
        self._error: ErrorBody = {"code": code, "message": message}
        if place:
            self._error["place"] = place
        if column is not None:
            self._error["column"] = column

    @property
    def body(self) -> ApiError:
        """The body of the answer."""
        return {"error": self._error}


def refusal_of(error: TrialStreamError) -> Refusal:
    """Return the answer to a request that failed with an error of trialstream.

    Args:
        error: The error; the `column` and the `place` of one that has them are passed on.
    """
    code: Code = next((code for kind, code in _CODES if isinstance(error, kind)), "internal")
    return Refusal(code, str(error), place=getattr(error, "place", ""), column=getattr(error, "column", None))
