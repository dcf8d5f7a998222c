"""Alerts: rules in a TOML file, conditions of trials and of the servers, and what is done when one begins to hold.

| module | job |
|---|---|
| `running` | follows the trials and the servers, and starts actions: once for each rule and trial |
| `rules` | the rules of a file, checked |
| `conditions` | when a rule holds for a trial |
| `servers` | lag and dead letters, and up to which time the projection shows the log |
| `actions` | webhook, command and log |
| `state` | the file that remembers what was done |
| `tables` | strict reading of TOML tables |
"""

from __future__ import annotations

from trialstream_console.alerts.rules import Rules, read_rules
from trialstream_console.alerts.running import run_alerts
from trialstream_console.alerts.state import State

__all__ = ["Rules", "State", "read_rules", "run_alerts"]
