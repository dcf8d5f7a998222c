"""Integrations of other libraries: callbacks, loggers and handlers that log to a trial.

| module | for |
|---|---|
| `logging`, `structlog` | messages, and numbers in them |
| `optuna` | studies: a callback, and a storage over the log |

Each module imports its library, and nothing else imports the module. `target` is the trial that they log to.
"""
