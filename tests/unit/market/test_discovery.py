"""Who announces a market is asked for its catalogue, and found if it has one of its own."""

from __future__ import annotations

from lnagents.lnd import AnnouncedNode
from lnagents.lnd.convert import announced_nodes
from lnagents.lnd.stubs import lightning_pb2 as ln
from lnagents.market import Catalogue, Seller, find_sellers
from lnagents.market.discovery import ASKED_ADDRESSES, SELLER_FEATURE_BIT
from lnagents.model.errors import MarketError

ANN, BEN, EVE = ("02" + digit * 64 for digit in "abe")


class Gossip:
    def __init__(self, *nodes: AnnouncedNode) -> None:
        self.nodes = nodes

    async def announced_nodes(self, feature_bit: int) -> tuple[AnnouncedNode, ...]:
        assert feature_bit == SELLER_FEATURE_BIT
        return self.nodes


class Web:
    """Catalogues by address; as `Browser`, it knows a seller by its key."""

    def __init__(self, owners: dict[str, str]) -> None:
        self.owners = owners
        self.asked: list[str] = []

    async def catalogue(self, seller: Seller) -> Catalogue:
        self.asked.append(seller.url)
        if self.owners.get(seller.url) != seller.key:
            raise MarketError("another's, or nobody's")
        return Catalogue(seller=seller.key, bands=1, valid_seconds=1.0, offers=())


async def test_an_announced_market_is_found_at_the_address_that_answers() -> None:
    web = Web({"http://b:8081": BEN, "http://e:1": ANN})
    gossip = Gossip(
        AnnouncedNode(BEN, ("b:9735", "b:8081", "[::1]:9735")),
        AnnouncedNode(EVE, ("e:1",)),  # announces another's market
        AnnouncedNode(ANN, ()),
    )
    assert await find_sellers(gossip, web.catalogue) == (Seller("http://b:8081", BEN),)
    # The Aperture was added last, so it is asked for early.
    assert web.asked.index("http://[::1]:9735") < web.asked.index("http://b:8081")
    assert "http://b:9735" not in web.asked


async def test_no_more_is_asked_than_needed() -> None:
    web = Web({})
    many = AnnouncedNode(EVE, tuple(f"e:{port}" for port in range(1, 1_000)))
    gossip = Gossip(many, AnnouncedNode(BEN, ("b:1",)))
    assert await find_sellers(gossip, web.catalogue, known=[BEN]) == ()
    assert len(web.asked) == ASKED_ADDRESSES


def test_announcements_are_read_from_the_graph() -> None:
    def node(key: str, *bits: int) -> ln.LightningNode:
        return ln.LightningNode(
            pub_key=key,
            addresses=[
                ln.NodeAddress(network="tcp", addr="1.2.3.4:9735"),
                ln.NodeAddress(network="tcp", addr="abc.onion:9735"),
            ],
            features={bit: ln.Feature() for bit in bits},
        )

    graph = ln.ChannelGraph(nodes=[node(ANN, 9), node(BEN, 9, SELLER_FEATURE_BIT), node(EVE)])
    assert announced_nodes(graph, SELLER_FEATURE_BIT) == (AnnouncedNode(BEN, ("1.2.3.4:9735",)),)
