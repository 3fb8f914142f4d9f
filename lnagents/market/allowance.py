"""A bound on what strangers may have for free: an invoice for every price that Aperture is told."""

from __future__ import annotations

from collections.abc import Callable


class Allowance:
    """A bucket that holds `burst` and is refilled with `per_second`."""

    def __init__(self, burst: int, per_second: float, clock: Callable[[], float]) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._clock = clock
        self._left = self._burst
        self._at = clock()

    def take(self) -> bool:
        """Whether there is one left; if so, it is taken."""
        now = self._clock()
        refill = max(0.0, now - self._at) * self._per_second
        self._left, self._at = min(self._burst, self._left + refill), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
