"""Settings of hypothesis: the same examples in every run, within about a minute on two cores."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "trialstream",
    deadline=None,
    derandomize=True,
    max_examples=150,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # explaining a failing log takes longer than reading it
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("trialstream")
