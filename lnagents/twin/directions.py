"""How the senders of a `Traffic` route their payments: as LND would, or as agents decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lnagents.twin.network import Int8Array, Int32Array, Int64Array

BY_LND = 0
"""The sender's LND finds the routes (SendPaymentV2)."""
BY_ROUTE = 1
"""One attempt along the given edges (SendToRouteV2)."""
BY_HOP = 2
"""Every agent on the way chooses the next channel by its preferences (`Twin.set_preferences`), as
far as the rest of the route keeps within the budget; other nodes forward what they were told."""


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """One array element per payment of a `Traffic`."""

    mode: Int8Array
    """`BY_LND`, `BY_ROUTE` or `BY_HOP`."""
    priority: Int8Array
    """1: may use what `Twin.set_admission` keeps free, 0: may not."""
    first_hop: Int64Array
    """[payments + 1]; payment p has the edges `first_hop[p]` to `first_hop[p + 1]`."""
    edge: Int32Array
    """[hops], of payments `BY_ROUTE`."""

    @classmethod
    def of(
        cls,
        count: int,
        *,
        mode: Int8Array | int = BY_LND,
        priority: Int8Array | int = 0,
        routes: Sequence[Sequence[int]] | None = None,
    ) -> Directions:
        """For `count` payments; `routes` has the edges of each one, empty unless `BY_ROUTE`."""
        rows = routes if routes is not None else [()] * count
        first_hop = np.zeros(count + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=first_hop[1:])
        return cls(
            mode=np.array(np.broadcast_to(np.asarray(mode, dtype=np.int8), (count,))),
            priority=np.array(np.broadcast_to(np.asarray(priority, dtype=np.int8), (count,))),
            first_hop=first_hop,
            edge=np.array([edge for row in rows for edge in row], dtype=np.int32),
        )
