"""Settings for all unit tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is no error: properties are about results, not about time.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
