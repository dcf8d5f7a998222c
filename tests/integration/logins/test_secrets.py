"""Passwords, keys and tokens on real servers: they open connections, and no output shows them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trialstream as ts
from trialstream.event_log.clients import open_client

from logins.secure_servers import PASSWORD, USER

KEY_PASSWORD = "swordfish"
# A MongoDB that does not answer: these tests write to the log alone.
NO_MONGO = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"


@pytest.fixture(scope="module")
def client_key(servers):
    """A client certificate of the servers' authority, with its encrypted key in the same file."""
    folder = servers.ca.parent
    request = ["req", "-newkey", "rsa:2048", "-passout", f"pass:{KEY_PASSWORD}", "-keyout", "client.key"]
    sign = ["x509", "-req", "-in", "client.csr", "-out", "client.crt", "-CA", "ca.pem", "-CAkey", "ca.key"]
    for each in ([*request, "-out", "client.csr", "-subj", "/CN=client"], [*sign, "-CAcreateserial", "-days", "2"]):
        subprocess.run(["openssl", *each], cwd=folder, check=True, capture_output=True, timeout=60)
    both = folder / "client.pem"
    both.write_text((folder / "client.key").read_text() + (folder / "client.crt").read_text())
    return both


# A program that logs everything that there is to log, and shows what it has, also in errors.
PROGRAM = """
import asyncio, logging, sys, time, traceback
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
import trialstream as ts

async def main():
    config = ts.Config.from_env()
    print(config, repr(config))
    protocol = ts.connect(timeout=10)
    async with protocol:
        trial = await protocol.new_trial(ts.Trial(name="secrets"), auto_increment=True, wait=False)
        await protocol.log_trial_metrics(trial, loss=0.5)
        await protocol.commit("acked")
        print(repr(protocol), repr(vars(protocol)), protocol.statistics())
    async with ts.connect(read_only=True, timeout=3) as reading:
        print(repr(reading), len(await reading.fetch_trials()))
    for settings in ({"kafka_sasl_password": "wrong-1"}, {"mongo_password": "wrong-2", "read_only": True}):
        try:
            async with ts.connect(timeout=2, spool="off", **settings) as wrong:
                await wrong.fetch_trials()
        except ts.ServerUnavailable:
            traceback.print_exc()
            print("refused")

asyncio.run(main(), debug=True)
"""


def forms(secret: str) -> set[str]:
    """Return the forms in which a secret may be shown: as it is, in base64 at any position, and in hexadecimal."""
    raw = secret.encode()
    encoded = {base64.b64encode(b"\0" * shift + raw).decode()[shift + (shift > 0) : -4] for shift in range(3)}
    return {secret, raw.hex(), raw.hex(" "), *encoded}


def settings(servers, client_key, tmp_path: Path) -> dict[str, str]:
    """Return the environment of the program: each secret in a file, and none in a variable."""
    files = {"KAFKA_SASL_PASSWORD": PASSWORD, "MONGO_PASSWORD": PASSWORD, "MONGO_SSL_PASSWORD": KEY_PASSWORD}
    for name, content in files.items():
        (tmp_path / name).write_text(f"{content}\n")
    options = f"tls=true&tlsCAFile={servers.ca}&tlsCertificateKeyFile={client_key}&directConnection=true"
    return {
        "TRIALSTREAM_KAFKA": servers.kafka_sasl,
        "TRIALSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "TRIALSTREAM_KAFKA_SASL_USERNAME": USER,
        "TRIALSTREAM_MONGO": f"mongodb://{USER}@{servers.mongo_tls}/?{options}&authSource=admin",
        "TRIALSTREAM_PREFIX": "secrets",
        **{f"TRIALSTREAM_{name}_FILE": str(tmp_path / name) for name in files},
    }


def test_no_output_has_a_secret(servers, client_key, tmp_path):
    """With all loggers at DEBUG and asyncio in its debug mode, no secret is in any output, nor are the wrong ones."""
    environment = os.environ | settings(servers, client_key, tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output[-3000:]
    assert ended.stdout.count("refused") == 2
    # The messages that may hold them are there: authentications of Kafka, commands of MongoDB, tracebacks.
    for wanted in ("SaslAuthenticateRequest", "DEBUG:pymongo.command", "DEBUG:asyncio", "Traceback"):
        assert wanted in output
    for secret in (PASSWORD, KEY_PASSWORD, "wrong-1", "wrong-2"):
        for form in forms(secret):
            assert form not in output


def test_forms_of_a_secret():
    """The search finds a secret within a message of SASL PLAIN, in each of the forms, wherever it begins."""
    for user in ("a", "ad", USER):
        message = f"\0{user}\0{PASSWORD}".encode()
        for shown in (repr(message), base64.b64encode(message).decode(), message.hex(), message.hex(" ")):
            assert any(form in shown for form in forms(PASSWORD))


async def test_kafka_with_an_encrypted_key(servers, client_key):
    """The password of the client key opens it, and the connection is used."""
    tls = {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": str(servers.ca)}
    config = ts.Config(
        kafka=servers.kafka_tls, kafka_ssl_certfile=str(client_key), kafka_ssl_password=KEY_PASSWORD, **tls
    )

    async with open_client(config) as client:
        assert client.cluster.brokers()


# --- OAUTHBEARER


def token(seconds: float = 600.0, subject: str = "ada") -> str:
    """Return an unsigned token (RFC 7519, section 6), which the listener takes."""

    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    now = int(time.time())  # the server's clock has milliseconds: it refuses a token of a later microsecond
    return f"{part({'alg': 'none'})}.{part({'sub': subject, 'iat': now, 'exp': now + seconds})}."


OAUTH = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_mechanism": "OAUTHBEARER"}


def connected(servers, prefix="oauth", **given):
    """Make a protocol on the listener with OAUTHBEARER."""
    return ts.connect(kafka=servers.kafka_oauth, mongo=NO_MONGO, prefix=prefix, timeout=10, **OAUTH, **given)


async def test_tokens_of_a_function_and_of_a_file(servers, tmp_path):
    """A plain function, a coroutine function and a file give the tokens of a protocol that logs."""

    async def coming():
        return token()

    file = tmp_path / "token"
    file.write_text(f"{token()}\n")
    for given in ({"kafka_token": token}, {"kafka_token": coming}, {"kafka_token_file": file}):
        async with connected(servers, **given) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="a"), auto_increment=True, wait=False)
            await protocol.log_trial_metrics(trial, loss=0.5)
            await protocol.commit("acked")


async def test_expired_tokens_are_replaced(servers):
    """A connection ends with its token; the next one gets a new token, and every event is acknowledged."""
    tokens = []

    def short_lived():
        tokens.append(token(4))
        return tokens[-1]

    async with connected(servers, kafka_token=short_lived) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"), auto_increment=True, wait=False)
        await protocol.commit("acked")
        first, deadline = len(tokens), time.monotonic() + 30
        while len(tokens) == first:
            assert time.monotonic() < deadline
            await protocol.log_trial_metrics(trial, loss=0.5)
            await protocol.commit("acked", timeout=20)
        await protocol.commit("acked", timeout=20)
        assert protocol.statistics().dropped == 0


@pytest.mark.filterwarnings("ignore:trialstream. a request to Kafka:RuntimeWarning")
@pytest.mark.parametrize("number", range(2, 8))
async def test_a_refused_token_ends_one_connection(servers, number):
    """The next connection gets another token, whichever it was for; topics are made, and events acknowledged."""
    tokens = []

    def sometimes_expired():
        tokens.append(token(-60 if len(tokens) + 1 == number else 600))
        return tokens[-1]

    async with connected(servers, prefix=f"refused-{number}", kafka_token=sometimes_expired) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"), auto_increment=True, wait=False)
        await protocol.log_trial_metrics(trial, loss=0.5)
        await protocol.commit("acked", timeout=20)
        assert protocol.statistics().dropped == 0
        assert len(tokens) > number


def _failing():
    raise ConnectionError("the identity provider does not answer")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        pytest.param(
            _failing, "authentication: kafka_token: the function raised ConnectionError: the id", id="an error"
        ),
        pytest.param(lambda: 7, "authentication: kafka_token: expected a token as a str, got int", id="a number"),
        pytest.param(lambda: "no.json.", "authentication: the server refuses the token", id="a malformed token"),
        pytest.param(lambda: token(-60), "authentication: the server refuses the token", id="an expired token"),
    ],
)
async def test_tokens_that_cannot_be_used(servers, given, wanted):
    """The error names the step and what is wrong with the token, and does not show it."""
    with pytest.raises(ts.KafkaUnavailable, match=wanted) as raised:
        await connected(servers, kafka_token=given, spool="off").__aenter__()

    assert servers.kafka_oauth in str(raised.value)
    assert "no.json" not in str(raised.value)
