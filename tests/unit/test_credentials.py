"""Secrets in files, encrypted keys, and settings of authentication that do not fit together."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import subprocess
import sys
from contextlib import nullcontext

import aiokafka.conn
import anyio
import pytest
import trialstream as ts
from aiokafka.abc import AbstractTokenProvider
from aiokafka.protocol import admin
from trialstream import kafka_security
from trialstream.config import Config
from trialstream.credentials import read_secret
from trialstream.kafka_security import TokenError
from trialstream.reading.uri import driver_options
from trialstream_console.local.consumer import environment
from trialstream_consumer.replay.sharing import Share
from trialstream_schemas.errors import ConfigError
from trialstream_schemas.storage.collections import Namespace

SECRET = "hunter2"
SECRETS = [each.name for each in dataclasses.fields(Config) if not each.repr and each.type == "str"]


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """Remove all settings from the environment of the test."""
    for name in [each for each in os.environ if each.startswith("TRIALSTREAM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with a certificate, its encrypted key, both in one file, and another key with the same password."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("", "other-"):
        files = ["-keyout", f"{name}key.pem", "-out", f"{name}cert.pem", "-passout", f"pass:{SECRET}"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *files, "-days", "2", "-subj", "/CN=client"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "both.pem").write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return folder


# --- Secrets in files


def given(name: str) -> str:
    """Return a valid value of a secret setting."""
    return f"mongodb://ada:{SECRET}@a/" if name == "mongo" else SECRET


def test_the_secret_settings():
    """These settings can come from files; a new one is among them by being left out of `repr`."""
    assert SECRETS == ["mongo", "mongo_password", "mongo_ssl_password", "kafka_sasl_password", "kafka_ssl_password"]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["no line break", "a line break", "one of Windows"])
def test_every_secret_can_come_from_a_file(monkeypatch, tmp_path, name, end):
    """The content of the file is the secret, without the line break at its end; an empty variable does not count."""
    file = tmp_path / "secret"
    file.write_bytes(f"{given(name)}{end}".encode())
    monkeypatch.setenv(f"TRIALSTREAM_{name.upper()}_FILE", str(file))
    monkeypatch.setenv(f"TRIALSTREAM_{name.upper()}", "")

    assert getattr(Config.from_env(), name) == given(name)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_has_one_source(monkeypatch, tmp_path, name):
    """A variable and its file together are refused; an argument comes before both, and nothing is read then."""
    variable = f"TRIALSTREAM_{name.upper()}"
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "missing"))
    assert getattr(Config.from_env(**{name: given(name)}), name) == given(name)

    monkeypatch.setenv(variable, given(name))
    with pytest.raises(ConfigError, match=f"^{variable}: cannot be set together with {variable}_FILE") as caught:
        Config.from_env()
    assert SECRET not in str(caught.value)


def _fifo(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        pytest.param(lambda _: None, "cannot read .*No such file", id="a missing file"),
        pytest.param(lambda path: path.mkdir(), "cannot read .*expected a file, got a folder", id="a folder"),
        pytest.param(_fifo, "cannot read .*expected a file, got a FIFO", id="a FIFO that nobody writes"),
        pytest.param(
            lambda path: path.symlink_to("/dev/zero"),
            "cannot read .*expected a file, got a device",
            id="an endless device",
        ),
        pytest.param(lambda path: path.symlink_to(path), "cannot read .*symbolic links", id="a circle of links"),
        pytest.param(lambda path: path.write_text(SECRET * 10**4), "expected at most 65536 bytes", id="a large file"),
        pytest.param(lambda path: path.write_bytes(SECRET.encode() + b"\xff"), "expected UTF-8", id="other bytes"),
        pytest.param(lambda path: path.write_text(""), "expected a secret, got an empty file", id="an empty file"),
        pytest.param(
            lambda path: path.write_text("\n"), "expected a secret, got an empty file", id="a line break alone"
        ),
    ],
)
def test_files_that_hold_no_secret(monkeypatch, tmp_path, make, wanted):
    """The error comes at once and names the variable and the path, and never has a part of the content."""
    path = tmp_path / "secret"
    make(path)
    monkeypatch.setenv("TRIALSTREAM_KAFKA_SASL_PASSWORD_FILE", str(path))

    with pytest.raises(ConfigError, match=f"^TRIALSTREAM_KAFKA_SASL_PASSWORD_FILE: {wanted}") as caught:
        Config.from_env()
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_without_the_right_to_read_it(monkeypatch):
    """The error of a file that another user owns has the reason."""

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)

    with pytest.raises(ConfigError, match=r"^X: cannot read '/run/secret': Permission denied$"):
        read_secret("X", "/run/secret")


def test_mounted_secrets(monkeypatch, tmp_path):
    """A link to a file that everybody may read is taken, as Kubernetes mounts secrets."""
    (tmp_path / "data").write_text(SECRET)
    (tmp_path / "data").chmod(0o644)
    (tmp_path / "password").symlink_to("data")
    monkeypatch.setenv("TRIALSTREAM_KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "password"))

    assert Config.from_env().kafka_sasl_password == SECRET


def test_a_child_process_gets_the_settings_alone(monkeypatch, tmp_path):
    """The variables for a child replace the files of this environment, which would contradict them."""
    monkeypatch.setenv("TRIALSTREAM_MONGO_FILE", str(tmp_path / "missing"))
    config = Config(mongo="mongodb://b/", kafka_sasl_password=SECRET, kafka_token=lambda: "x", kafka_token_file="/t")
    for name, text in environment(config).items():
        monkeypatch.setenv(name, text)

    assert Config.from_env() == dataclasses.replace(config, kafka_token=None)


def test_a_function_stays_in_its_process():
    """A replay with several processes refuses a token function, and takes a token file."""
    with pytest.raises(ConfigError, match=r"^kafka_token: .*kafka_token_file"):
        Share(Config(kafka_token=lambda: "x"), Namespace("a"), 1, {}).to_json()

    share = Share(Config(kafka_token_file="/t"), Namespace("a", "~2"), 1, {})
    assert Share.from_json(share.to_json()) == share


# --- Encrypted keys


TLS = {"kafka_security_protocol": "SSL"}


def of_kafka(keys, key="key.pem", cert="cert.pem", password=""):
    """Make the arguments of Kafka's client with a key."""
    files = {"kafka_ssl_certfile": keys / cert, "kafka_ssl_keyfile": keys / key if key else ""}
    return Config(**TLS, **files, kafka_ssl_password=password).kafka_client()


def of_mongo(keys, password="", option=""):
    """Check the settings of MongoDB with a key."""
    option = f"&tlsCertificateKeyFilePassword={option}" if option else ""
    uri = f"mongodb://a/?tls=true&tlsCertificateKeyFile={keys / 'both.pem'}{option}"
    return driver_options(Config(mongo=uri, mongo_ssl_password=password))


def test_keys_with_their_passwords(keys):
    """A key is opened by the password, also one in the file of the certificate; MongoDB's by its URI too."""
    of_kafka(keys, password=SECRET)
    of_kafka(keys, key="", cert="both.pem", password=SECRET)

    assert of_mongo(keys, password=SECRET) == {"tlsCertificateKeyFilePassword": SECRET}
    assert of_mongo(keys, option=SECRET) == {}


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        pytest.param(of_kafka, "^kafka_ssl_password: .*encrypted.*key.pem", id="Kafka, none"),
        pytest.param(lambda keys: of_kafka(keys, password="x"), "^kafka_ssl_password: .*not open", id="Kafka, wrong"),
        pytest.param(lambda keys: of_kafka(keys, password="x" * 1025), "1024 bytes", id="Kafka, a long one"),
        pytest.param(
            lambda keys: of_kafka(keys, key="other-key.pem", password=SECRET),
            "^kafka_ssl_certfile .*other-key.pem.*(?i:mismatch)",
            id="Kafka, the key of another certificate",
        ),
        pytest.param(of_mongo, "^mongo_ssl_password or .*encrypted.*both.pem", id="MongoDB, none"),
        pytest.param(lambda keys: of_mongo(keys, password="x"), "^mongo_ssl_password.*not open", id="MongoDB, wrong"),
        pytest.param(
            lambda keys: of_mongo(keys, option="x"), "^mongo_ssl_password.*not open", id="MongoDB, in the URI"
        ),
    ],
)
def test_keys_without_their_passwords(keys, make, wanted):
    """A missing or wrong password is a ConfigError that names the setting and the file."""
    with pytest.raises(ConfigError, match=wanted) as caught:
        make(keys)
    assert SECRET not in str(caught.value)


# A child with a terminal of its own, where OpenSSL would prompt and wait.
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
CONNECT = """
import sys, trialstream as ts
ssl = {"kafka_security_protocol": "SSL", "kafka_ssl_certfile": sys.argv[1]}
for settings in (ssl, {"mongo": f"mongodb://a/?tlsCertificateKeyFile={sys.argv[1]}"}):
    try:
        ts.connect(**settings)
    except ts.ConfigError as error:
        print(error)
"""


def test_nobody_is_prompted(keys):
    """On a terminal, too, the missing password of a key is an error, for Kafka and for MongoDB."""
    command = [sys.executable, "-c", TERMINAL, sys.executable, "-c", CONNECT, str(keys / "both.pem")]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)

    lines = ended.stdout.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "kafka_ssl_password",
        "mongo_ssl_password or tlsCertificateKeyFilePassword",
    ]


# --- Settings that do not fit together


SASL = {"kafka_security_protocol": "SASL_PLAINTEXT"}
USER = {"kafka_sasl_username": "ada", "kafka_sasl_password": SECRET}
OAUTH = {**SASL, "kafka_sasl_mechanism": "OAUTHBEARER"}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        pytest.param({**SASL, "kafka_sasl_username": "ada"}, "kafka_sasl_password: expected", id="PLAIN, no password"),
        pytest.param(
            {**SASL, "kafka_sasl_mechanism": "SCRAM-SHA-256", "kafka_sasl_password": SECRET},
            "kafka_sasl_username: expected .*SCRAM-SHA-256",
            id="SCRAM, no user",
        ),
        pytest.param({**SASL, **USER, "kafka_token": lambda: "x"}, "kafka_token: .*no effect", id="PLAIN, a token"),
        pytest.param({**SASL, **USER, "kafka_token_file": "/t"}, "kafka_token_file: .*no effect", id="PLAIN, a file"),
        pytest.param(OAUTH, "kafka_token: expected either .*got 0", id="OAUTHBEARER, no token"),
        pytest.param(
            {**OAUTH, "kafka_token": lambda: "x", "kafka_token_file": "/t"},
            "kafka_token: expected either .*got 2",
            id="OAUTHBEARER, two sources",
        ),
        pytest.param({**OAUTH, **USER}, "kafka_sasl_username: has no effect.*OAUTHBEARER", id="OAUTHBEARER, a user"),
        pytest.param(USER, "kafka_sasl_username: has no effect.*PLAINTEXT", id="a user without SASL"),
        pytest.param({"kafka_sasl_mechanism": "PLAIN"}, "kafka_sasl_mechanism: has no", id="a mechanism without SASL"),
        pytest.param(
            {**SASL, **USER, "kafka_ssl_cafile": "/ca"}, "kafka_ssl_cafile: has no", id="TLS files without TLS"
        ),
        pytest.param(
            {**TLS, "kafka_ssl_keyfile": "/k"}, "kafka_ssl_keyfile: expected kafka_ssl_certfile", id="a key alone"
        ),
    ],
)
def test_settings_that_do_not_fit(settings, wanted):
    """Settings that are missing, or that would have no effect, are a ConfigError of `connect`."""
    with pytest.raises(ConfigError, match=f"^{wanted}") as caught:
        ts.connect(**settings)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        pytest.param({"mongo": "mongodb://a"}, "mongo_password: .*with a user", id="no user"),
        pytest.param({"mongo": "mongodb://ada:x@a"}, "mongo_password: .*without a password", id="two passwords"),
        pytest.param(
            {"mongo": "mongodb+srv://a.b.c/?x=@"}, "mongo_password: .*with a user", id="an @ among the options"
        ),
    ],
)
def test_passwords_that_do_not_fit_to_the_uri(settings, wanted):
    """A password of MongoDB needs a user in the URI that has none yet."""
    with pytest.raises(ConfigError, match=f"^{wanted}") as caught:
        driver_options(Config(**settings, mongo_password=SECRET))
    assert SECRET not in str(caught.value)


def test_the_password_of_mongodb_beside_its_uri():
    """The password is passed on to the driver as it is, without escapes; a URI with a user alone names the setting."""
    config = Config(mongo="mongodb://ada@a/?authSource=admin", mongo_password="p%40:/@")

    assert driver_options(config) == {"password": "p%40:/@"}
    with pytest.raises(ConfigError, match="mongo_password"):
        driver_options(dataclasses.replace(config, mongo_password=""))


# --- Tokens


def provider(**settings):
    """Return the token provider of aiokafka's arguments."""
    return Config(**OAUTH, **settings).kafka_client()["sasl_oauth_token_provider"]


async def _of_a_coroutine(token="a.b."):
    return token


@pytest.mark.parametrize(
    "function",
    [lambda: "a.b.", _of_a_coroutine, lambda at="a.b.": _of_a_coroutine(at)],
    ids=["plain", "coroutine function", "a function that returns a coroutine"],
)
async def test_tokens_of_functions(function):
    """A token comes from a function of either kind."""
    assert await provider(kafka_token=function).token() == "a.b."


async def test_tokens_of_a_file(tmp_path):
    """The file is read for each connection, since tokens expire; a missing file is named."""
    file = tmp_path / "token"
    tokens = provider(kafka_token_file=file)
    file.write_text("first\n")
    assert await tokens.token() == "first"
    file.write_text("second\n")
    assert await tokens.token() == "second"
    file.unlink()
    with pytest.raises(TokenError) as caught:
        await tokens.token()
    assert caught.value.args[0] == f"kafka_token_file: cannot read {str(file)!r}: No such file or directory"


def _failing():
    raise ConnectionError("the identity provider does not answer")


async def _timed_out():
    raise TimeoutError("of the function itself")


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        pytest.param(_failing, "the function raised ConnectionError: the identity provider does not", id="an error"),
        pytest.param(_timed_out, "the function raised TimeoutError: of the function itself", id="a timeout of its own"),
        pytest.param(lambda: None, "expected a token as a str, got NoneType", id="None"),
        pytest.param(SECRET.encode, "expected a token as a str, got bytes", id="bytes"),
        pytest.param(lambda: "", "expected a token, got an empty str", id="an empty text"),
        pytest.param(
            lambda: f"{SECRET}\x01auth=x", "expected a token of .*, got a str of length 14", id="an injected extension"
        ),
        pytest.param(lambda: f"{SECRET}\n", "expected a token of .*, got a str of length 8 with", id="a line break"),
    ],
)
async def test_functions_without_a_token(function, wanted):
    """An error of the function is one of the connection, which is tried again; values are not shown."""
    with pytest.raises(TokenError) as caught:
        await provider(kafka_token=function).token()

    assert re.match(f"kafka_token: {wanted}", caught.value.args[0])
    assert SECRET not in str(caught.value)


async def test_a_function_that_hangs(monkeypatch):
    """A function has as long as a request to Kafka."""
    monkeypatch.setattr(kafka_security, "_TOKEN_SECONDS", 0.01)

    with pytest.raises(TokenError, match=r"returned no token within 0\.01 s"):
        await provider(kafka_token=anyio.sleep_forever).token()


async def test_refusals_of_tokens():
    """A further message of the server refuses our token; connections of other libraries go on as before."""

    class OfOthers(AbstractTokenProvider):
        async def token(self):
            return "a.b."

    for tokens, refuses in ((provider(kafka_token=lambda: "a.b."), True), (OfOthers(), False)):
        authenticator = aiokafka.conn.OAuthAuthenticator(sasl_oauth_token_provider=tokens)
        assert await authenticator.step(None) == (b"n,,\x01auth=Bearer a.b.\x01\x01", True)
        with pytest.raises(TokenError, match="refuses the token") if refuses else nullcontext():
            assert await authenticator.step(b'{"status": "invalid_token"}') is None
        assert await authenticator.step(b"") is None


# --- Logs of aiokafka


MESSAGES = [
    each
    for name, each in vars(admin).items()
    if name.startswith(("SaslAuthenticateRequest_v", "SaslAuthenticateResponse_v"))
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: each.__name__)
def test_messages_of_an_authentication_are_hidden(caplog, message):
    """No request and no response of an authentication is logged, in any version; other messages are."""
    Config(**SASL, **USER).kafka_client()
    content = message(*(SECRET.encode() if name == "sasl_auth_bytes" else 0 for name in message.SCHEMA.names))
    other = admin.SaslHandShakeRequest("PLAIN").build(admin.SaslHandShakeRequest._CLASSES[0])
    assert SECRET in repr(content)

    with caplog.at_level(logging.DEBUG, "aiokafka.conn"):
        log = logging.getLogger("aiokafka.conn")
        log.debug("Request to %s:%d %d: %s", "a", 1, 2, content)
        log.debug("Request to %s:%d %d: %s", "a", 1, 3, other)

    assert caplog.messages[0] == f"Request to a:1 2: {message.__name__}(hidden)"
    assert "mechanism='PLAIN'" in caplog.messages[1]
    assert SECRET not in repr([vars(record) for record in caplog.records])


# --- Captured command lines


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--password", SECRET, "--lr", "1"], ["--password", "***", "--lr", "1"]),
        (["--password", "--odd-value", "x"], ["--password", "***", "x"]),
        ([f"--kafka_sasl_password={SECRET}"], ["--kafka_sasl_password=***"]),
        ([f"db.password={SECRET}", f"+hf-token={SECRET}"], ["db.password=***", "+hf-token=***"]),
        (["--api-key", SECRET], ["--api-key", "***"]),
        (["--token", SECRET], ["--token", "***"]),
        (["--mongo", f"mongodb://ada:{SECRET}@a/?x=1"], ["--mongo", "mongodb://ada:***@a/?x=1"]),
        ([f"--mongo=mongodb://ada:{SECRET}@a,b/"], ["--mongo=mongodb://ada:***@a,b/"]),
        (["--pad-token", "</s>", "--max_tokens=3"], ["--pad-token", "</s>", "--max_tokens=3"]),
        (["--url", "http://a:80/x@y", "password"], ["--url", "http://a:80/x@y", "password"]),
    ],
    ids=[
        "option",
        "option before an option",
        "equals",
        "overrides",
        "key",
        "token",
        "URL",
        "URL with =",
        "tokens",
        "port",
    ],
)
def test_secrets_of_command_lines(monkeypatch, arguments, wanted):
    """A captured command line has no passwords of URLs, and no values of options that are named as secrets."""
    from trialstream.tracking.capture.surroundings import command

    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", *arguments])
    assert command()["line"] == ["python", "train.py", *wanted]
