"""Logging of the commands, to stderr."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from trialstream_schemas.messages import printable, shortened

from trialstream_console.cli.repetitions import RepetitionFilter, add_left_out

__all__ = ["log_errors_only", "log_json", "log_printable"]

_DRIVERS = ("aiokafka", "motor", "pymongo")
# Maximum length of a line, and of each value in it, characters: errors may quote documents and records at any length.
_MAX_LINE = 32 * 1024
_MAX_VALUE = 8000
_MAX_SHORT_VALUE = 200
_json = structlog.processors.JSONRenderer()


class _PrintableFormatter(logging.Formatter):
    """Formats the message alone, with unsafe characters as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        return shortened(printable(super().format(record)), _MAX_VALUE)


def log_printable() -> None:
    """Write warnings and errors as plain lines, with unsafe characters as escapes.

    aiokafka's are left out: they report requests that it then retries, or that end the command with an error.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def log_json(level: int, **fields: object) -> None:
    """Write one JSON object for each log event, in the same form for structlog and for the standard library's loggers.

    Repeated warnings and errors are logged once a minute (`repetitions.py`).

    Args:
        level: Lowest level of the consumer's own events; other loggers (aiokafka's) log warnings and errors.
        **fields: Fields of every event.
    """
    shared: list[Any] = [
        lambda _logger, _method, event: {**event, **fields},
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                add_left_out,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _render,
            ],
            foreign_pre_chain=shared,
        )
    )
    handler.addFilter(_lower_driver_error)
    handler.addFilter(RepetitionFilter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("aiokafka").setLevel(logging.NOTSET)  # after `log_printable`
    logging.getLogger("trialstream_consumer").setLevel(level)


def _render(logger: object, method: str, event: structlog.typing.EventDict) -> str:
    """Render an event as one line of JSON, of a bounded length."""
    for most in (_MAX_VALUE, _MAX_SHORT_VALUE):  # escapes make a text up to twelve times as long
        line = _json(logger, method, {shortened(key, most): _bounded(each, most) for key, each in event.items()})
        if len(line) <= _MAX_LINE:
            break
    return str(line)


def _bounded(value: Any, most: int) -> Any:
    """Return a value of an event, or its text at a bounded length if that is longer."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= most else shortened(text, most)


def _lower_driver_error(record: logging.LogRecord) -> bool:
    """Make an error of a driver a warning: the driver retries by itself, or raises an error that the service handles.

    Exceptions that a driver logs with their traceback stay errors: nobody has expected them.
    """
    if record.levelno > logging.WARNING and not record.exc_info and record.name.partition(".")[0] in _DRIVERS:
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def log_errors_only() -> None:
    """Log errors only: dead letters were reported when the service folded them, and `dead-letters` lists them."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.set_exc_info,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            renderer,
            lambda _logger, _method, text: shortened(printable(str(text)), _MAX_LINE),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("trialstream").setLevel(logging.ERROR)
