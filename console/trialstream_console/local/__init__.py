"""A real Kafka, a real MongoDB and the consumer on this machine, without Docker."""

from __future__ import annotations

from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.ports import Ports
from trialstream_console.local.stack import LocalStack

__all__ = ["LocalStack", "LocalStackError", "Ports"]
