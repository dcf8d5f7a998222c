"""Integrations of other libraries: callbacks, loggers and handlers that log to a trial (docs/integrations.md).

| module | for |
|---|---|
| `logging`, `structlog` | messages, and numbers in them |
| `optuna` | studies: a callback, and a storage over the log |
| `sklearn`, `xgboost`, `lightgbm`, `keras` | training: callbacks |
| `autologging` | these callbacks in every training |
| `hydra`, `ray` | jobs and trials of theirs as trials |
| `lightning`, `transformers`, `accelerate`, `ignite` | what their trainers report |
| `opentelemetry` | chronos as spans |
| `target`, `messages` | the trial that they log to; messages as its output |
| `trials` | trials that they start |

A module imports its library, and nothing else imports the module.
"""
