"""Secured servers: each role works with its least rights, and each missing right and wrong login has an error."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_support import cli
from trialstream.testing import check_protocol
from trialstream_console.local import LocalStack
from trialstream_console.local.granting import grant
from trialstream_console.rights import ROLES, mongo_role
from trialstream_schemas.errors import KafkaUnavailable, MongoUnavailable

from secured.roles import JOBS, config_of, connected, first_of_each, lost, without, without_action

# An error of a missing right, a wrong login or a wrong certificate comes within five seconds. The machine of the tests
# may be busy: what is caught are requests that are repeated for ever, or until a timeout of half a minute.
SECONDS = 20.0
LACKS = "lacks the right "


@pytest.fixture(scope="module")
async def folder(secured, tmp_path_factory) -> Path:
    """A folder with an archive of the log, from which all roles have worked once."""
    folder = tmp_path_factory.mktemp("jobs")
    for role in ("setup", "log-groups", "consume", "rebuild"):
        await JOBS[role](config_of(secured, role), folder)
    await JOBS["export"](config_of(secured, "export"), folder)
    [archive] = folder.glob("*.avro")
    archive.rename(folder / "log.avro")
    return folder


# --- Least rights


async def test_contract(secured):
    """The Protocol keeps its contract for a user who may log and read, and nothing else."""
    await check_protocol(lambda: connected(config_of(secured, "protocol")))


@pytest.mark.parametrize("role", list(JOBS))
async def test_least_rights(secured, folder, role):
    """The rights of each role are enough for what it does."""
    with anyio.fail_after(30):
        await JOBS[role](config_of(secured, role), folder)


async def test_trials_that_are_lost(secured):
    """`trialstream trials --lost` creates and writes nothing: the right to describe the trials topic is enough."""
    await lost(config_of(secured, "read"), Path())


# Those of the dashboard, which goes on without a right, are in test_dashboard_rights.py.
KAFKA_RIGHTS = [(role, right) for role in JOBS if role != "setup" for right in ROLES[role].kafka]


@pytest.mark.parametrize(
    ("role", "right"),
    first_of_each(lambda role, right: (role, right.kind), KAFKA_RIGHTS),
    ids=[f"{role} without {right.operation} {right.resource}" for role, right in KAFKA_RIGHTS],
)
async def test_missing_right_in_kafka(secured, folder, role, right):
    """Without any one of its rights, a role gets an error within seconds that names the right and the resource."""
    job = lost if role == "read" else JOBS[role]
    config = config_of(secured, role)
    wanted = f"{LACKS}{right.operation} on {right.kind} {re.escape(right.name(config))}: `trialstream rights`"
    if right.resource == "group":  # the consumer of the stack would end, too
        await run_sync(secured.consumer.stop)
    async with without(secured, role, right):
        with pytest.raises((KafkaUnavailable, ts.CommitTimeout), match=wanted), anyio.fail_after(SECONDS):
            await job(config, folder)
    await run_sync(secured.consumer.start)


@pytest.mark.parametrize(
    "missing",
    first_of_each(lambda right: right.operation, ((each,) for each in ROLES["setup"].kafka)),
    ids=lambda each: f"{each.operation} {each.resource}",
)
async def test_missing_right_of_the_setup(secured, folder, missing):
    """Without any one of its rights, the setup of a new log gets an error that names the right and the topic."""
    config = config_of(secured, "setup", prefix=f"new-{os.urandom(4).hex()}")
    as_launcher = dataclasses.replace(secured.config, prefix=config.prefix)
    rights = tuple(each for each in ROLES["setup"].kafka if each != missing)
    await grant(as_launcher, "setup", rights)
    # A right to write or to create includes that to describe, and one to read is replaced by writing again.
    wanted = rf"{LACKS}\w+ on topic .*{re.escape(missing.name(config))}"
    with pytest.raises(KafkaUnavailable, match=wanted), anyio.fail_after(SECONDS):
        await JOBS["setup"](config, folder)


MONGO_RIGHTS = [(role, action) for role in JOBS for action in ROLES[role].mongo]


@pytest.mark.parametrize(
    ("role", "action"),
    first_of_each(lambda role, _: role, MONGO_RIGHTS),
    ids=[f"{role} without {action}" for role, action in MONGO_RIGHTS],
)
async def test_missing_right_in_mongodb(secured, folder, role, action):
    """Without any one of its actions, a role gets an error within seconds that names the action."""
    if action == "dropCollection":  # a collection of the first projection that is no longer live
        with MongoClient(secured.config.mongo) as client:
            client[secured.config.database].outcomes.insert_one({})
    async with without_action(secured, role, action):
        with pytest.raises(MongoUnavailable, match=rf"{LACKS}.*\b{action}\b") as raised, anyio.fail_after(SECONDS):
            await JOBS[role](config_of(secured, role), folder)
    assert len(str(raised.value)) < 400


# --- Without MongoDB


async def test_a_producer_needs_no_mongodb(secured):
    """Without MongoDB, creations return at once, and calls that need it raise an error that names the setting."""
    async with connected(config_of(secured, "log-groups", mongo="")) as protocol:
        made = await protocol.new_trial(ts.Trial(name="no-mongo"))
        other = await protocol.new_trial(ts.Trial(name="no-mongo"), auto_increment=True)
        await protocol.log_trial_start(made)
        await protocol.commit("acked")
        for call in (
            protocol.fetch_trials(),
            protocol.commit("folded"),
            protocol.fetch_and_update_trial({}, "log_trial_start"),
        ):
            with pytest.raises(ts.Offline, match="TRIALSTREAM_MONGO"):
                await call
    assert len({made.request, other.request, None}) == 3
    async with connected(config_of(secured, "protocol"), timeout=60.0) as reader:
        found = await reader.fetch_trials({"name": "no-mongo"}, sort="revision", latest=True)
    assert [(each.revision, each.starts) for each in found] == [(0, 1), (1, 0)]


@pytest.mark.parametrize("fault", ["no right", "wrong password"])
async def test_a_mongodb_that_refuses(secured, fault):
    """If MongoDB refuses the user, a creation with auto_increment goes on with a warning, and others raise at once."""
    config = config_of(secured, "protocol")
    if fault == "wrong password":
        config = dataclasses.replace(config, mongo=re.sub(r"//(\w+):[^@]+@", r"//\1:wrong@", config.mongo))
    else:  # a user of MongoDB with no role at all
        uri = config.mongo.replace(*secured_as(secured, "protocol", "bare"))
        await create_user(secured, "bare")
        config = dataclasses.replace(config, mongo=uri)
    async with connected(config) as protocol:
        with pytest.warns(RuntimeWarning, match="goes on without its revision.*auth"), anyio.fail_after(SECONDS):
            made = await protocol.new_trial(ts.Trial(name="refused"), auto_increment=True)
        assert made.request
        for call in (protocol.new_trial(ts.Trial(name="refused")), protocol.fetch_trials()):
            with pytest.raises(MongoUnavailable, match="auth"), anyio.fail_after(SECONDS):
                await call


def secured_as(stack: LocalStack, role: str, user: str) -> tuple[str, str]:
    """Return the credentials of a role in a URI, and those of another user."""
    return f"{role}:{stack.security.passwords[role]}@", f"{user}:secret@"


async def create_user(stack: LocalStack, user: str) -> None:
    """Create a user of MongoDB without roles."""
    with MongoClient(stack.config.mongo) as client:
        client.admin.command("createUser", user, pwd="secret", roles=[])


# --- Wrong logins


LOGIN = ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
KAFKA_FAULTS = {
    "wrong password": ({"kafka_sasl_password": "wrong"}, "authentication: .*kafka_sasl_password"),
    "other mechanism": ({"kafka_sasl_mechanism": "PLAIN"}, "authentication: .*kafka_sasl_mechanism"),
    "no login": (
        {"kafka_security_protocol": "SSL", **dict.fromkeys(LOGIN, "")},
        "authentication: the server expects SASL",
    ),
    "no encryption": (
        {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_cafile": ""},
        "TLS: the server expects TLS",
    ),
    "other authority": ({"kafka_ssl_cafile": ""}, "TLS: the server's certificate is refused"),
    "other host name": ({"kafka": "localhost"}, "TLS: the server's certificate is refused .*ostname mismatch"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", list(KAFKA_FAULTS))
async def test_wrong_login_at_kafka(secured, folder, fault):
    """Each command and each Protocol says within seconds at which step the connection to Kafka fails."""
    settings, wanted = KAFKA_FAULTS[fault]

    def wrong(role: str) -> ts.Config:
        config = config_of(secured, role)
        given = {
            key: each.replace("localhost", f"localhost:{config.kafka.partition(':')[2]}")
            for key, each in settings.items()
        }
        return dataclasses.replace(config, **given)

    jobs = [(wrong(role), job) for role, job in JOBS.items() if role != "read"]
    await all_fail([*jobs, (wrong("read"), lost)], folder, wanted)


def mongo_fault(uri: str, fault: str) -> tuple[str, str]:
    """Return the URI with a fault, and what the error must match."""
    return {
        "wrong password": (re.sub(r"//([\w-]+):[^@]+@", r"//\1:wrong@", uri), "authentication: .*failed"),
        "other mechanism": (f"{uri}&authMechanism=PLAIN", "authentication|mechanism"),
        "no login": (
            re.sub(r"//[^@]+@", "//", uri).replace("&authSource=admin", ""),
            "authentication: .*requires authentication",
        ),
        "no encryption": (re.sub(r"&tls=.*", "", uri), "TLS: the server expects TLS"),
        "other authority": (re.sub(r"&tlsCAFile=.*", "", uri), "TLS: .*certificate"),
        "other host name": (
            re.sub(r"@127.0.0.1", "@localhost", uri).replace("replicaSet=trialstream", "directConnection=true"),
            "TLS: .*ostname",
        ),
    }[fault]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["wrong password", "other mechanism", "no login", "no encryption", "other authority", "other host name"]
)
async def test_wrong_login_at_mongodb(secured, folder, fault):
    """Each command and each reader says within seconds at which step the connection to MongoDB fails."""
    jobs, wanted = [], ""
    for role in ("read", "consume", "rebuild", "setup"):
        config = config_of(secured, role)
        uri, wanted = mongo_fault(config.mongo, fault)
        jobs.append((dataclasses.replace(config, mongo=uri), JOBS[role]))
    await all_fail(jobs, folder, wanted)


async def all_fail(jobs, folder, wanted) -> None:
    """Run jobs at once, and check that each fails in time with an error that matches and holds no password."""
    errors: list[tuple[str, str]] = []

    async def run(config: ts.Config, job) -> None:
        said = "nothing within the time"
        with anyio.move_on_after(SECONDS):
            try:
                await job(config, folder)
                said = "no error"
            except ts.TrialStreamError as error:
                said = str(error)
                assert not config.kafka_sasl_password or config.kafka_sasl_password not in said
        errors.append((job.__name__, said))

    async with anyio.create_task_group() as tasks:
        for config, job in jobs:
            tasks.start_soon(run, config, job)
    wrong = [f"{job}: {said}" for job, said in errors if not re.search(wanted, said)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("command", "password", "wanted"),
    [
        (("consume",), None, f"{LACKS}Read on topic trialstream."),
        (("export", "log.avro"), None, f"{LACKS}Read on topic trialstream."),
        (("trials", "--lost"), "wrong", "authentication: "),
    ],
    ids=["consume", "export", "trials"],
)
def test_commands(secured, tmp_path, monkeypatch, command, password, wanted):
    """A command without the rights of its role ends with exit code 1 and one line that says so."""
    monkeypatch.chdir(tmp_path)
    config = config_of(secured, "log", mongo=config_of(secured, "consume").mongo)
    if password is not None:
        config = dataclasses.replace(config, kafka_sasl_password=password)
    found = cli(config, *command)
    assert found.returncode == 1
    assert wanted in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr


# --- The launcher


def test_secrets_stay_secret(secured):
    """Secrets are in files of this user alone: not in command lines, in settings of the servers, or in logs."""
    security = secured.security
    secrets = {*security.passwords.values(), (security.folder / "keyfile").read_text()}
    lines = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # of another test, and has ended
            lines.append(" ".join(each.cmdline()))
    assert len(lines) >= 3
    for each in (*security.folder.iterdir(), security.folder):
        assert stat.S_IMODE(each.stat().st_mode) & 0o077 == 0, each
    texts = [path.read_text(errors="replace") for path in secured.folder.path.iterdir() if path.is_file()]
    assert not [text for text in (*lines, *texts) if any(secret in text for secret in secrets)]


def test_settings_of_a_role(secured):
    """`trialstream env --role ROLE` prints the settings by which a shell gets the rights of the role."""
    command = [sys.executable, "-m", "trialstream_console.cli", "env", "--data", str(secured.folder.path)]
    printed = subprocess.run([*command, "--role", "read"], capture_output=True, text=True, check=True)
    script = f"{printed.stdout}{sys.executable} -m trialstream_console.cli trials --json --limit 1"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")

    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "--role: expected one of setup, log, " in refused.stderr


def test_printed_rights(secured):
    """`trialstream rights ROLE` prints what the role needs, for Kafka and MongoDB."""
    found = cli(config_of(secured, "consume"), "rights", "consume")
    assert "--allow-principal User:consume --operation Read --group trialstream.fold" in found.stdout
    assert '"createRole": "trialstream-consume"' in found.stdout
    assert found.stdout.count('"resource"') == len(mongo_role(secured.config, "consume")["privileges"]) == 1


def test_a_restart(tmp_path):
    """A secured folder stays secured, with the same users; a plain one cannot become one."""
    plain = LocalStack(tmp_path / "plain", consumer=False)
    plain.folder.create()
    plain.folder.update_settings(kafka="4.3.1", mongod="6.0.5", ports=None, prefix=None)
    with pytest.raises(ts.TrialStreamError, match="expected a new folder for secured servers"):
        LocalStack(tmp_path / "plain", consumer=False, secure=True).start()
