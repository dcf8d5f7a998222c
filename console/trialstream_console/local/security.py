"""Security of a local stack: its authority, certificates, users and passwords, in the folder `secure`.

ca.pem  ca.key                the authority
server.pem                    key and certificate of both servers; Kafka's own requests come from `User:broker`
launcher.pem                  key and certificate of the launcher, Kafka's super user
keyfile                       the key by which members of MongoDB's replica set trust each other
users.json                    passwords of the roles and of MongoDB's administrator

The folder and its files belong to the user alone. Secrets are written to files and read from there: none is part of a
command line.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from trialstream.config import Config

from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.ports import HOST, REPLICA_SET, Ports
from trialstream_console.rights import ROLES

__all__ = ["ADMIN", "LAUNCHER", "Security"]

ADMIN = "admin"
"""User of MongoDB that makes the others."""
LAUNCHER = "launcher"
"""User of Kafka that grants the rights of the others."""

_DAYS = "3650"
_OPENSSL = f"""\
[req]
distinguished_name=name
prompt=no
[name]
CN=trialstream
[authority]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[signed]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
subjectAltName=IP:{HOST}
"""


class Security:
    """The secrets of a data folder.

    Args:
        data: The data folder.

    Attributes:
        folder: Folder of the secrets.
    """

    def __init__(self, data: Path) -> None:
        self.folder = data.absolute() / "secure"

    @property
    def exists(self) -> bool:
        """Whether the stack of the data folder is a secured one."""
        return self._users.exists()

    @property
    def ca(self) -> Path:
        """Certificate of the authority."""
        return self.folder / "ca.pem"

    @property
    def _users(self) -> Path:
        return self.folder / "users.json"

    @cached_property
    def passwords(self) -> dict[str, str]:
        """Passwords by user: one of each role, and that of MongoDB's administrator."""
        found: dict[str, str] = json.loads(self._users.read_text())
        return found

    def create(self) -> None:
        """Make all secrets, unless they exist.

        Raises:
            LocalStackError: The program openssl is missing, or has failed.
        """
        if self.exists:
            return
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.folder.chmod(0o700)
        self.write("openssl.cnf", _OPENSSL)
        new = ("req", "-config", "openssl.cnf", "-newkey", "rsa:2048", "-nodes")
        root = ("-x509", "-extensions", "authority", "-days", _DAYS, "-subj", "/CN=authority")
        self._openssl(*new, *root, "-keyout", "ca.key", "-out", "new.crt")
        self.write("ca.pem", (self.folder / "new.crt").read_text())
        for name, user in (("server", "broker"), ("launcher", LAUNCHER)):
            self._openssl(*new, "-subj", f"/CN={user}", "-keyout", "new.key", "-out", "new.csr")
            by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", str(secrets.randbits(63)))
            extensions = ("-extfile", "openssl.cnf", "-extensions", "signed", "-days", _DAYS)
            self._openssl("x509", "-req", "-in", "new.csr", "-out", "new.crt", *by, *extensions)
            self.write(f"{name}.pem", "".join((self.folder / each).read_text() for each in ("new.key", "new.crt")))
        for each in ("new.key", "new.csr", "new.crt", "openssl.cnf"):
            (self.folder / each).unlink()
        self.write("keyfile", secrets.token_hex(256))
        # Last, since it marks the folder as complete.
        self.write("users.json", json.dumps({name: secrets.token_urlsafe(24) for name in (*ROLES, ADMIN)}, indent=1))

    def write(self, name: str, text: str) -> Path:
        """Write a file that only this user may read.

        Args:
            name: Name of the file in the folder.
            text: Its content.
        """
        path = self.folder / name
        new = self.folder / f".{name}.new"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return new.replace(path)

    # --- Clients

    def context(self) -> ssl.SSLContext:
        """Return the TLS settings of the launcher, which identify it."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.folder / "launcher.pem")
        return context

    def mongo_options(self, *, authenticated: bool) -> dict[str, Any]:
        """Return the options of the launcher's client of MongoDB.

        Args:
            authenticated: Whether the administrator exists.
        """
        options: dict[str, Any] = {"tls": True, "tlsCAFile": str(self.ca)}
        return {**options, "username": ADMIN, "password": self.passwords[ADMIN]} if authenticated else options

    def config(self, role: str, config: Config, ports: Ports) -> Config:
        """Return the settings of a user with a role.

        Args:
            role: Name of the role, which is also that of the user.
            config: The other settings.
            ports: Ports of the servers.
        """
        return replace(
            config,
            kafka=ports.kafka_address,
            mongo=self._uri(role, ports) if ROLES[role].mongo else "",
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="SCRAM-SHA-512",
            kafka_sasl_username=role,
            kafka_sasl_password=self.passwords[role],
            kafka_ssl_cafile=str(self.ca),
            kafka_ssl_certfile="",
            kafka_ssl_keyfile="",
        )

    def launcher(self, config: Config, ports: Ports) -> Config:
        """Return the settings of the launcher, which may do anything; parameters as for `config`."""
        certificate = str(self.folder / "launcher.pem")
        return replace(
            config,
            kafka=f"{HOST}:{ports.mtls}",
            mongo=self._uri(ADMIN, ports),
            kafka_security_protocol="SSL",
            kafka_ssl_cafile=str(self.ca),
            kafka_ssl_certfile=certificate,
            kafka_ssl_keyfile=certificate,
        )

    def _uri(self, user: str, ports: Ports) -> str:
        options = f"replicaSet={REPLICA_SET}&authSource=admin&tls=true&tlsCAFile={quote_plus(str(self.ca))}"
        return f"mongodb://{user}:{self.passwords[user]}@{ports.mongo_address}/?{options}"

    def _openssl(self, *arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            raise LocalStackError("a secured stack needs the program openssl, which makes its certificates: install it")
        done = subprocess.run(  # noqa: S603 - our own command
            [program, *arguments], cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            raise LocalStackError(f"openssl could not make the certificates: {done.stderr.strip()[-400:]}")
