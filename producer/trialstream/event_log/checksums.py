"""CRC-32C, the checksum of Kafka's batches, which TensorBoard's event files use too."""

from __future__ import annotations

from aiokafka.record.util import calc_crc32c

__all__ = ["crc32c"]


def crc32c(data: bytes | memoryview) -> int:
    """Return the CRC-32C (Castagnoli, RFC 3720) of some bytes."""
    return calc_crc32c(data)  # type: ignore[arg-type]  # it takes any bytes
