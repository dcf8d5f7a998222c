"""A real Kafka, a real MongoDB and the consumer on this machine, without Docker.

| module | job |
|---|---|
| `stack` | `LocalStack`: the servers as one object |
| `launcher`, `status` | the process that runs a stack; the state of a stack, for any process |
| `kafka`, `mongo`, `consumer` | one server each |
| `server`, `process` | a server as a child process; child processes |
| `security`, `granting` | the secrets of a secured stack; the rights of its users |
| `folder`, `private_folder`, `json_fields` | the data folder, a folder of this user alone, the fields of its files |
| `binaries`, `ports` | the programs of the servers, and where they listen |
| `die_with_parent`, `steps`, `errors` | small parts |
"""

from __future__ import annotations

from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.ports import Ports
from trialstream_console.local.stack import LocalStack

__all__ = ["LocalStack", "LocalStackError", "Ports"]
