"""Settings of hypothesis, before the properties are imported: those of `profiles.py`."""

import profiles  # noqa: F401 - it loads them
