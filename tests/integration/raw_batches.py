"""Batches made by hand, sent as they are: what a writer of another kind may put into a topic."""

from __future__ import annotations

import struct

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import encode_varint
from trialstream.event_log.checksums import crc32c

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TRANSACTIONAL, CONTROL = 0x10, 0x20
_HEADER_BYTES = 61


def built(values, codec="", headers=(), first=0, key=None):
    """Return a batch of values, compressed with a codec, as a broker stores it from an offset on."""
    builder = DefaultRecordBatchBuilder(2, CODECS.get(codec, 0), 0, -1, -1, -1, 2**31 - 1)
    for offset, value in enumerate(values):
        builder.append(offset, 1000 + offset, key, value, list(headers))
    batch = builder.build()
    struct.pack_into(">q", batch, 0, first)
    return bytes(batch)


def signed(batch):
    """Return a batch with its length and its checksum."""
    batch = batch[:8] + struct.pack(">i", len(batch) - 12) + batch[12:]
    return batch[:17] + struct.pack(">I", crc32c(batch[21:])) + batch[21:]


def flagged(batch, flags, producer):
    """Return a batch with further attributes, of a producer with an id."""
    [attributes] = struct.unpack_from(">h", batch, 21)
    batch = batch[:21] + struct.pack(">h", attributes | flags) + batch[23:]
    return signed(batch[:43] + struct.pack(">q", producer) + batch[51:])


def zstd_bomb(size):
    """Return a batch with one record of zeros, which zstd packs 30,000 : 1; making it takes 64 MiB."""
    body = bytearray(b"\0\0\0\x01")  # flags, times, offsets, no key
    encode_varint(size, body.append)
    record = bytearray()
    encode_varint(len(body) + size + 1, record.append)
    frames = [bytes(cramjam.zstd.compress(bytes(record + body)))]
    zeros = bytes(cramjam.zstd.compress(bytes(2**26)))
    frames += [zeros] * (size // 2**26)
    frames.append(bytes(cramjam.zstd.compress(bytes(size % 2**26 + 1))))
    header = bytearray(built([b""])[:_HEADER_BYTES])
    struct.pack_into(">h", header, 21, CODECS["zstd"])
    return signed(bytes(header) + b"".join(frames))


async def send_batch(config, partition, batch, topic=""):
    """Append one batch to a partition, of the trials topic by default; return the offset of its first record."""
    topic = topic or config.trials_topic
    producer = AIOKafkaProducer(**config.kafka_client())
    await producer.start()
    try:
        await producer.client._wait_on_metadata(topic)
        [leader] = [node.nodeId for node in producer.client.cluster.brokers()]
        request = ProduceRequest(None, -1, 20_000, [(topic, [(partition, batch)])])
        response = await producer.client.send(leader, request)
        [(_, [(_, code, offset, *_)])] = response.topics
        if code:
            raise for_code(code)
        return offset
    finally:
        await producer.stop()
