"""Settings of hypothesis: the same examples in every run, in `make test` a third of those that `make faults` makes."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

__all__ = ["examples"]

_WHOLE = settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # explaining a failing log takes longer than reading it
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("whole", _WHOLE)
settings.register_profile("third", _WHOLE, max_examples=_WHOLE.max_examples // 3)
settings.load_profile("third")


def examples(number: int) -> int:
    """Return the number of examples of a property in this run.

    Args:
        number: Number of its examples in `make faults`.
    """
    return max(1, number * settings.default.max_examples // _WHOLE.max_examples)
