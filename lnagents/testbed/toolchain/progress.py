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
    """How much of the step is done, in its own unit."""
    total: int = 0
    """How much there is; 0 when that is not known."""

    @property
    def text(self) -> str:
        """The message with the count."""
        of_total = f"/{self.total}" if self.total else ""
        count = f" ({self.done}{of_total})" if self.done else ""
        return f"{self.message}{count}"

    def __str__(self) -> str:
        return f"{self.product}: {self.text}"


Progress = Callable[[ProgressEvent], None]
"""Called from the event loop; must return at once."""


def silent(event: ProgressEvent) -> None:
    """For callers that show nothing."""
