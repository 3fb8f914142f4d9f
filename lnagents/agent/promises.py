"""Keeps what the own fee commitments promise: no decision sets a fee above a promise that holds."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from lnagents.market import Document, FeeCommitment, RouteQuote
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import Msat, Ppm, ShortChannelId


class FeePromises:
    """A `lnagents.market.FeeKeeper`; it stands between decisions and the node.

    A promise counts from the moment it is made. Those that were sold are in the store's sales, and
    are loaded from there; one that a crash kept from being recorded was given to nobody.
    """

    def __init__(
        self,
        policy_of: Callable[[ShortChannelId], ChannelPolicy | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`policy_of` tells the own policy of a channel, None if it is not known."""
        self._policy_of = policy_of
        self._clock = clock
        self._promised: dict[ShortChannelId, list[tuple[Msat, Ppm, float]]] = defaultdict(list)
        self._being_set: dict[ShortChannelId, ChannelPolicy] = {}

    def load(self, sold: Iterable[Document]) -> None:
        """Take over promises that were made before.

        A quote says what the fee of its amount is, not its parts; as it has been kept until now,
        the present ones are promised.
        """
        for one in sold:
            if isinstance(one, FeeCommitment):
                self._promised[one.scid].append(
                    (one.base_fee_msat, one.fee_rate_ppm, one.expires_at)
                )
            elif isinstance(one, RouteQuote):
                self.promise(one.hops[0].scid, one.expires_at)

    def promise(self, scid: ShortChannelId, until: float) -> tuple[Msat, Ppm] | None:
        """Promise the present fee of `scid` until then; None if it is not known."""
        policy = self._policy_of(scid)
        if policy is None:
            return None
        # An update that is on its way to the node may be dearer than what its graph shows.
        coming = self._being_set.get(scid, policy)
        base = max(policy.base_fee_msat, coming.base_fee_msat)
        rate = max(policy.fee_rate_ppm, coming.fee_rate_ppm)
        self._promised[scid].append((base, rate, until))
        return base, rate

    def held(self, scid: ShortChannelId, policy: ChannelPolicy) -> ChannelPolicy:
        """`policy` with its fees brought down to what is promised; it is about to be set."""
        now = self._clock()
        self._promised[scid] = [one for one in self._promised[scid] if one[2] > now]
        for base, rate, _ in self._promised[scid]:
            policy = replace(
                policy,
                base_fee_msat=min(policy.base_fee_msat, base),
                fee_rate_ppm=min(policy.fee_rate_ppm, rate),
            )
        self._being_set[scid] = policy
        return policy
