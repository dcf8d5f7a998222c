"""Answers of the dashboard as bytes: their compression."""

from __future__ import annotations

import cramjam
import pytest
from starlette.requests import Request
from trialstream_console.dashboard.answers import content

BODY = b"a line of an answer\n" * 100
PLAIN = {
    "": bytes,
    "zstd": lambda body: bytes(cramjam.zstd.decompress(body)),
    "gzip": lambda body: bytes(cramjam.gzip.decompress(body)),
}


def request(accepted):
    """A request of a client that takes some compressions."""
    return Request({"type": "http", "headers": [(b"accept-encoding", accepted.encode())]})


@pytest.mark.parametrize(
    ("accepted", "name"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("GZIP", "gzip"),
        ("zstd;q=0, gzip;q=0.1", "gzip"),
        ("zstd ; q=0.0,gzip;q=0", ""),
        ("zstd;q=1.0", "zstd"),
        ("br, deflate", ""),
        ("gzipped", ""),
        (",;q=,;;,=", ""),
        ("", ""),
    ],
)
def test_the_best_compression_that_a_client_takes(accepted, name):
    """The bytes are those of the answer, whichever compression the client takes."""
    answer = content(request(accepted), BODY, "text/plain", etag=True)

    assert answer.headers.get("content-encoding", "") == name
    assert PLAIN[name](answer.body) == BODY
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["etag"] == content(request(""), BODY, "text/plain", etag=True).headers["etag"]


def test_short_answers_are_plain():
    """Their compression would cost more than the bytes."""
    assert "content-encoding" not in content(request("zstd"), BODY[:1000], "text/plain", etag=False).headers
