"""A real Kafka and a real MongoDB on this machine, without Docker."""

from __future__ import annotations

from trialstream_consumer.local.errors import LocalStackError
from trialstream_consumer.local.ports import Ports
from trialstream_consumer.local.stack import LocalStack

__all__ = ["LocalStack", "LocalStackError", "Ports"]
