"""A kit for tests of code that logs: `connect("memory:")` needs no servers, and a pytest plugin opens it for a test.

    import trialstream as ts
    from trialstream.testing import check_protocol, deterministic

| module | job |
|---|---|
| `clock` | `deterministic`: a fake clock and ids that do not change from run to run |
| `checking` | `check_protocol`: whether a protocol keeps the contract |
| `checks`, `contract` | what it checks; the methods of the Protocol and the values that it takes, as data |
| `plugin` | the fixtures `trialstream`, `trialstream_async` and `trialstream_stack` of pytest |

Importing this package is light: it imports no driver, no codec and no event loop.
"""

from __future__ import annotations

from trialstream.testing.checking import check_protocol
from trialstream.testing.clock import FakeClock, deterministic

__all__ = ["FakeClock", "check_protocol", "deterministic"]
