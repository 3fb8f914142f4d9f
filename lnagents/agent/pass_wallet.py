"""Own passes: presented on routes that lead over their channels, and what became of each use.

A hop that sold a pass and refuses the HTLC that presents it has broken what it was paid for. Nobody
can prove that to a third party, as the refusal looks like any other; so each seller has a record,
and what its next pass is worth depends on it (`PassWallet.reliability`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from lnagents.agent.candidates import Admitted
from lnagents.agent.pass_ledger import AttemptState, OwnPassLedger
from lnagents.market import PriorityPass, open_document
from lnagents.market.passes import PASS_RECORD, Passage, pass_id, present, public_key
from lnagents.market.paths import MAX_SECONDS, PassRequest, parse_quoted
from lnagents.model.errors import StoreError
from lnagents.model.graph import Edge
from lnagents.model.payment import AttemptFailure, AttemptStatus, Route
from lnagents.model.units import Msat, NodeKey, PaymentHash, ShortChannelId

MARGIN_SECONDS = 1.0
"""An HTLC may take so long to its hop; a pass that ends sooner is not presented."""

TRUST = (4.0, 1.0)
"""A seller that nobody knows counts as if so many uses had been let through, and refused."""

COLLECT_SECONDS = 60.0
"""Between two looks for passes that were delivered late."""

SECRET_BYTES = 32
SECRET_NAME = "passes"  # noqa: S105  (a name)

_OF_PEOPLE = ""
"""In place of the nonce; no purchase has this one."""


@dataclass(slots=True)
class OwnPass:
    """A pass that can be presented."""

    identity: bytes
    seller: NodeKey
    scid: ShortChannelId
    amount_msat: Msat
    expires_at: float
    payment_hash: PaymentHash | None
    key: bytes
    """Private; empty if the pass is for one payment hash."""
    spent_msat: Msat = 0
    under_way: bool = False

    @property
    def left_msat(self) -> Msat:
        """What may still be sent with it."""
        return self.amount_msat - self.spent_msat


@dataclass(frozen=True, slots=True)
class Presented:
    """A pass that an attempt presents."""

    own: OwnPass
    attempt: int
    """Its number in the book of payments."""
    hop: int
    """Index in the route of the node that sold it, as failures count: 1 is the first hop's."""
    amount_msat: Msat


class PassWallet:
    """The passes of one agent, as a `Payer` and whoever buys for it need them."""

    def __init__(self, ledger: OwnPassLedger, *, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._secret = b""
        self._passes: dict[bytes, OwnPass] = {}
        self._known: set[bytes] = set()
        self._honoured: dict[NodeKey, list[int]] = defaultdict(lambda: [0, 0])
        """Uses let through, and refused."""

    async def load(self) -> None:
        """Take over what was bought and used before. What may still be under way counts as spent.

        Raises:
            StoreError: the store cannot be used.
        """
        self._secret = await self._ledger.secret(SECRET_NAME, secrets.token_bytes(SECRET_BYTES))
        await self.collect()
        for identity, spent_msat in await self._ledger.spent():
            own = self._passes.get(identity)
            if own is not None:
                own.spent_msat += spent_msat
        for seller, honoured, refused in await self._ledger.records():
            self._honoured[seller] = [honoured, refused]

    async def run(self) -> None:
        """Take in what is delivered late, until cancelled."""
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            with contextlib.suppress(StoreError):
                await self.collect()

    async def collect(self) -> None:
        """Take in the passes that were bought and delivered.

        Raises:
            StoreError: the store cannot be read.
        """
        for path, document in await self._ledger.bought_since(self._clock() - MAX_SECONDS):
            self._add(path, document)

    # ---- Buying

    def key_for(self, nonce: str) -> NodeKey:
        """The key of the pass that is asked for with `nonce`; it outlives a crash."""
        return public_key(self._private(nonce))

    @property
    def key(self) -> NodeKey:
        """The key of passes that people ask for; empty before `load`.

        It is the same each time, so that asking again does not pay again.
        """
        return self.key_for(_OF_PEOPLE) if self._secret else ""

    def _add(self, path: str, document: bytes) -> None:
        identity = pass_id(document)
        if identity in self._known:
            return
        self._known.add(identity)
        statement = open_document(document)
        request = parse_quoted(path)[0]
        if (
            not isinstance(statement, PriorityPass)
            or not isinstance(request, PassRequest)
            or statement.expires_at <= self._clock()
        ):
            return
        key = b""
        if statement.buyer_key is not None:
            known = map(self._private, (request.nonce, _OF_PEOPLE))
            key = next((one for one in known if public_key(one) == statement.buyer_key), b"")
            if not key:
                return  # somebody else's, for whom this agent was asked to buy it
        self._passes[identity] = OwnPass(
            identity,
            statement.issuer,
            statement.scid,
            statement.amount_msat,
            statement.expires_at,
            statement.payment_hash,
            key,
        )

    def reliability(self, seller: NodeKey) -> float:
        """How likely a seller is to let its holders through, after what it did so far."""
        honoured, refused = self._honoured[seller]
        return (TRUST[0] + honoured) / (sum(TRUST) + honoured + refused)

    # ---- Use

    def usable(
        self, seller: NodeKey, scid: ShortChannelId, amount_msat: Msat, payment_hash: PaymentHash
    ) -> OwnPass | None:
        """A pass for this use that nothing else uses now, the one with the least left."""
        latest = self._clock() + MARGIN_SECONDS
        fitting = (
            one
            for one in self._passes.values()
            if (one.seller, one.scid) == (seller, scid)
            and not one.under_way
            and one.left_msat >= amount_msat
            and one.expires_at > latest
            and one.payment_hash in (None, payment_hash)
        )
        return min(fitting, key=lambda one: one.left_msat, default=None)

    def admitted(self, payment_hash: PaymentHash) -> Admitted | None:
        """How likely edges take a payment that presents what there is; None: there is nothing.

        So a route that a pass was bought for is taken, also if it was refused without.
        """
        if not self._passes:
            return None

        def chance(edge: Edge, amount: Msat) -> float:
            own = self.usable(edge.source, edge.scid, amount, payment_hash)
            return 0.0 if own is None else self.reliability(own.seller)

        return chance

    def attach(
        self, payment_hash: PaymentHash, route: Route, attempt: int
    ) -> tuple[Route, list[Presented]]:
        """`route` with a pass at each hop that there is one for; they are under way from now on.

        `attempt` is its number in the book of payments.
        """
        hops = list(route.hops)
        presented = []
        for index in range(len(hops) - 1):
            hop, scid = hops[index], hops[index + 1].scid
            own = self.usable(hop.target, scid, hop.amount_msat, payment_hash)
            if own is None:
                continue
            use = present(own.key, own.identity, Passage(payment_hash, scid, hop.amount_msat))
            records = {**hop.custom_records, PASS_RECORD: use.to_bytes()}
            hops[index] = replace(hop, custom_records=records)
            own.under_way = True
            presented.append(Presented(own, attempt, index + 1, hop.amount_msat))
            self._ledger.presented(attempt, index + 1, own.identity, own.seller, hop.amount_msat)
        return (replace(route, hops=tuple(hops)) if presented else route), presented

    def ended(
        self,
        presented: list[Presented],
        status: AttemptStatus,
        failure: AttemptFailure | None = None,
    ) -> None:
        """The attempt that presented them is over."""
        for one in presented:
            state = _state(one, status, failure)
            one.own.under_way = False
            if state is AttemptState.SETTLED:
                one.own.spent_msat += one.amount_msat
            if state is AttemptState.REFUSED:
                # It would be again; the seller does not know it, or thinks that it is used up.
                self._passes.pop(one.own.identity, None)
            if state is not AttemptState.LOST:
                self._honoured[one.own.seller][state is AttemptState.REFUSED] += 1
            self._ledger.ended(one.attempt, one.hop, state)
        self._forget()

    def _private(self, nonce: str) -> bytes:
        return hmac.digest(self._secret, nonce.encode(), hashlib.sha256)

    def _forget(self) -> None:
        now = self._clock()
        self._passes = {
            identity: one
            for identity, one in self._passes.items()
            if one.under_way or (one.expires_at > now and one.left_msat > 0)
        }


def _state(one: Presented, status: AttemptStatus, failure: AttemptFailure | None) -> AttemptState:
    if status is AttemptStatus.SETTLED:
        return AttemptState.SETTLED
    if failure is None or failure.source_index < one.hop:
        return AttemptState.LOST  # it did not get to who sold the pass, or nobody knows
    return AttemptState.REFUSED if failure.source_index == one.hop else AttemptState.PASSED
