"""Finding sellers in node announcements.

LND 0.21 shows the custom records of other nodes' announcements, but offers nothing to put some into
its own: `peersrpc.UpdateNodeAnnouncement` takes feature bits, addresses, alias and colour (its
`NodeAnnouncementUpdateRequest`), and `protocol.custom-nodeann` feature bits only. These two are
enough: a seller announces a feature bit that nobody else has a meaning for, and its Aperture among
its addresses. Its operator does so once, and again after a restart of LND:

    lncli peers updatenodeannouncement --feature_bit_add=853 --address_add=HOST:PORT

Anybody may announce anything, so what is announced is only asked for a catalogue, and counts if
that is the announcing node's. What is bought afterwards is signed by this node, whoever sent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from lnagents.lnd import AnnouncedNode
from lnagents.market.catalogue import Catalogue
from lnagents.market.records import Seller
from lnagents.model.errors import MarketError
from lnagents.model.units import NodeKey

SELLER_FEATURE_BIT = 853
"""Odd: who does not know it ignores it (BOLT 9). Small: announcements grow with the highest bit."""
ASKED_ADDRESSES = 4
"""Of one node, the last: an Aperture was added to what the node had."""
AT_ONCE = 8


class GossipNode(Protocol):
    """What finding sellers needs of the own node; `lnagents.lnd.LndClient` has it."""

    async def announced_nodes(self, feature_bit: int) -> tuple[AnnouncedNode, ...]:
        """All nodes that announce this feature (DescribeGraph)."""


async def find_sellers(
    node: GossipNode,
    catalogue: Callable[[Seller], Awaitable[Catalogue]],
    *,
    known: Iterable[NodeKey] = (),
) -> tuple[Seller, ...]:
    """The sellers that gossip tells of and that answer with a catalogue of their own.

    Args:
        node: the own node.
        catalogue: asks a seller, and raises MarketError if it is not the one (`Browser.catalogue`).
        known: those that need not be sought.

    Raises:
        LndError: the own node does not tell its graph.
    """
    skipped = frozenset(known)
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(announced: AnnouncedNode) -> Seller | None:
        async with gate:
            for address in reversed(announced.addresses[-ASKED_ADDRESSES:]):
                seller = Seller(f"http://{address}", announced.key)
                try:
                    await catalogue(seller)
                except MarketError:
                    continue
                return seller
        return None

    nodes = await node.announced_nodes(SELLER_FEATURE_BIT)
    asked = (ask(one) for one in nodes if one.key not in skipped)
    return tuple(one for one in await asyncio.gather(*asked) if one is not None)
