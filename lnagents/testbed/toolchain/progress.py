"""What a set-up tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of providing a product, or how far it is."""

    product: str
    """`bitcoin`, `lnd`, `aperture` or `go`."""
    message: str
    done: int = 0
    total: int = 0
    """Of `done`; 0 when it is not known how much there is."""

    def __str__(self) -> str:
        count = f" ({self.done}/{self.total})" if self.total else ""
        return f"{self.product}: {self.message}{count}"


Progress = Callable[[ProgressEvent], None]
"""Called from the event loop; must return at once."""


def silent(event: ProgressEvent) -> None:
    """For callers that show nothing."""
