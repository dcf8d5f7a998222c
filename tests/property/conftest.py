"""How much hypothesis tries: the same in every run, within about a minute on two cores."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "trialstream",
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("trialstream")
