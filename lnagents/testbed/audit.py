"""Proof that no satoshi was lost: what every node has, against what it got, paid and earned.

`reconcile` is pure arithmetic over collected facts; `collect` asks the nodes. Amounts are exact to
the millisatoshi. Five statements are checked:

* channels: what all nodes hold in channels, with commitment fees, anchors and payments on their
  way, is the capacity of all channels;
* fees: what senders paid to forwarders is what forwarders earned;
* payments: what was sent (without fees) is what was received;
* per node, on chain: deposits - fees to miners - funded capacity = wallet;
* per node, in channels: what it holds now is what it held at the start + received - sent - fees
  paid + fees earned - what its commitments cost more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lnagents.lnd import InvoiceStatus, LndClient
from lnagents.model.errors import AuditError
from lnagents.model.payment import Forward, PaymentStatus
from lnagents.model.units import MSAT_PER_SAT, Msat
from lnagents.testbed.state import NodeBooks
from lnagents.testbed.together import together

FORWARDS_DELAY_SECONDS = 20.0
"""LND writes its forwarding history every 15 s (`DefaultFwdEventInterval`)."""


CLOCK_SECONDS = 60.0
"""Forwards count that carry a time this much before the start or after now: there are none before,
and clocks may be set."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What one node says about its money, all in msat; the first three are from the start."""

    deposited: Msat
    local_at_start: Msat
    commitment_at_start: Msat
    wallet: Msat
    on_chain_fees: Msat
    funded: Msat
    """Capacity of the channels that it opened."""
    local: Msat
    unsettled: Msat
    """Offered in payments that are on their way."""
    commitment: Msat
    """Commitment fees and anchors of the channels that it opened."""
    received: Msat
    sent: Msat
    """Without fees."""
    fees_paid: Msat
    fees_earned: Msat


@dataclass(frozen=True, slots=True)
class Statement:
    """One equation; both sides in msat."""

    what: str
    expected: Msat
    found: Msat

    @property
    def difference(self) -> Msat:
        """Found too much (positive) or too little, in msat."""
        return self.found - self.expected


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The equations, and the facts behind them by node name."""

    statements: tuple[Statement, ...]
    nodes: Mapping[str, NodeFacts]

    @property
    def difference_msat(self) -> Msat:
        """Sum of all differences, whatever their sign."""
        return sum(abs(statement.difference) for statement in self.statements)

    @property
    def difference_sat(self) -> int:
        """The same in satoshi; a part of one counts as one."""
        return -(-self.difference_msat // MSAT_PER_SAT)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "difference_sat": self.difference_sat,
            "difference_msat": self.difference_msat,
            "statements": [
                {
                    "what": statement.what,
                    "expected_msat": statement.expected,
                    "found_msat": statement.found,
                    "difference_msat": statement.difference,
                }
                for statement in self.statements
            ],
            "nodes": {
                name: {f"{key}_msat": value for key, value in asdict(facts).items()}
                for name, facts in self.nodes.items()
            },
        }


def reconcile(nodes: Mapping[str, NodeFacts]) -> AuditReport:
    """Check all statements over all nodes of a network."""
    every = nodes.values()
    statements = [
        Statement(
            "all channels",
            expected=sum(node.funded for node in every),
            found=sum(node.local + node.unsettled + node.commitment for node in every),
        ),
        _fees(every),
        Statement(
            "payments: received",
            expected=sum(node.sent for node in every),
            found=sum(node.received for node in every),
        ),
    ]
    for name, node in nodes.items():
        statements.append(
            Statement(
                f"{name}: on chain",
                expected=node.deposited - node.on_chain_fees - node.funded,
                found=node.wallet,
            )
        )
        earned = node.received + node.fees_earned - node.sent - node.fees_paid
        statements.append(
            Statement(
                f"{name}: in channels",
                expected=node.local_at_start + earned + node.commitment_at_start - node.commitment,
                found=node.local + node.unsettled,
            )
        )
    return AuditReport(tuple(statements), dict(nodes))


async def audit(
    clients: Mapping[str, LndClient], books: Mapping[str, NodeBooks], began_at: float
) -> AuditReport:
    """Ask all nodes and check; payments must have come to rest.

    Forwarding history comes up to 15 s late, so while only that is missing it is asked again.

    Raises:
        AuditError: channels were opened or closed since the start, which is not followed.
        LndError: a node did not answer.
    """
    deadline = time.monotonic() + FORWARDS_DELAY_SECONDS
    while True:
        report = reconcile(await collect(clients, books, began_at))
        if _fees(report.nodes.values()).difference >= 0 or time.monotonic() >= deadline:
            return report
        await asyncio.sleep(0.5)


async def wait_forwards(clients: Mapping[str, LndClient], began_at: float) -> None:
    """Wait until the nodes have written down all their forwards, which LND does every 15 s.

    Until then a node that is killed forgets what it earned. Payments must have come to rest.

    Raises:
        AuditError: the fees earned never became those that were paid.
    """
    deadline = time.monotonic() + FORWARDS_DELAY_SECONDS
    while True:
        paid, earned = 0, 0
        for own in await together(client.list_payments() for client in clients.values()):
            paid += sum(p.fee_msat for p in own if p.status is PaymentStatus.SETTLED)
        for forwards in await together(_forwards(c, began_at) for c in clients.values()):
            earned += sum(forward.fee_msat for forward in forwards)
        if earned >= paid:
            return
        if time.monotonic() >= deadline:
            raise AuditError(f"{paid} msat of fees were paid, but only {earned} msat were earned")
        await asyncio.sleep(0.5)


async def collect(
    clients: Mapping[str, LndClient], books: Mapping[str, NodeBooks], began_at: float
) -> dict[str, NodeFacts]:
    """The facts of every node that has books."""
    facts = await together(_facts_of(name, clients[name], books[name], began_at) for name in books)
    return dict(zip(books, facts, strict=True))


def _fees(nodes: Sequence[NodeFacts] | Any) -> Statement:
    return Statement(
        "fees: earned",
        expected=sum(node.fees_paid for node in nodes),
        found=sum(node.fees_earned for node in nodes),
    )


async def _facts_of(name: str, client: LndClient, books: NodeBooks, began_at: float) -> NodeFacts:
    channels = await client.channels()
    points = tuple(sorted(channel.channel_point for channel in channels))
    if points != books.channel_points:
        changed = ", ".join(sorted(set(points) ^ set(books.channel_points)))
        raise AuditError(
            f"{name} opened or closed channels since the network was made ({changed}):"
            " the audit follows payments and fees, not that"
        )
    wallet = await client.wallet_balance()
    balances = await client.channel_balances()
    settled = [
        payment
        for payment in await client.list_payments()
        if payment.status is PaymentStatus.SETTLED
    ]
    opened = [channel for channel in channels if channel.initiator]
    return NodeFacts(
        deposited=books.deposited_msat,
        local_at_start=books.local_msat,
        commitment_at_start=books.commitment_msat,
        wallet=wallet.confirmed_msat + wallet.unconfirmed_msat,
        on_chain_fees=await client.on_chain_fees(),
        funded=sum(channel.capacity_msat for channel in opened),
        local=balances.local_msat,
        unsettled=balances.unsettled_local_msat,
        commitment=sum(channel.opener_cost_msat for channel in opened),
        received=sum(
            invoice.paid_msat
            for invoice in await client.list_invoices()
            if invoice.status is InvoiceStatus.SETTLED
        ),
        sent=sum(payment.amount_msat for payment in settled),
        fees_paid=sum(payment.fee_msat for payment in settled),
        fees_earned=sum(forward.fee_msat for forward in await _forwards(client, began_at)),
    )


async def _forwards(client: LndClient, began_at: float) -> tuple[Forward, ...]:
    return await client.forwards(began_at - CLOCK_SECONDS, time.time() + CLOCK_SECONDS)
