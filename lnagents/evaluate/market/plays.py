"""Who does what in a run: the plays that are compared, each on the same networks and payments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from lnagents.evaluate.market.players import Honesty

MARKET_PRICE_SAT = 10
"""Of a hint in the plays that do not vary the price."""
PRICES_SAT = (1, 5, 10, 20, 50, 100, 200)
"""Of the plays that do."""
MAX_LEARNED_SAT = 200
"""Up to which sellers that learn may go."""


class Rival(str, Enum):
    """What the second seller does to the first, with whom it shares peers."""

    NONE = "nothing"
    BLIND = "undercuts"
    """Its fee towards each shared peer is below the first seller's, always."""
    INFORMED = "undercuts where there is something to lose"
    """It asks the first seller, and is dear where that one has nothing to send."""


@dataclass(frozen=True, slots=True)
class Play:
    """One way to play. The *first* seller and the *first* buyer are those who do something odd."""

    name: str
    market: bool = True
    """False: nobody sells."""
    price_sat: int = MARKET_PRICE_SAT
    """0: hints are free."""
    learned: bool = False
    """Whether sellers learn their prices, from `price_sat` on."""
    first_seller: Honesty | None = Honesty.HONEST
    """None: it does not sell, while others do."""
    resale: bool = False
    """Whether the first buyer sells on what it bought, at half the price."""
    free_ride: bool = False
    """Whether the first buyer buys nothing, but hears what becomes of other buyers' attempts."""
    rival: Rival = Rival.NONE
    believes_no: bool = False
    """Whether buyers put no answer to the test that says no."""
    by_lnd: bool = False
    """Whether the buyers' payments are left to their LND."""


NO_MARKET = Play("no market", market=False)
MARKET = Play("market")
FREE = Play("free", price_sat=0)
ABSTAINS = Play("first seller abstains", first_seller=None)
RESALE = Play("resale", resale=True)
FREE_RIDE = Play("free ride", free_ride=True)
BLIND = Play("rival undercuts", rival=Rival.BLIND)
INFORMED = Play("rival is informed", rival=Rival.INFORMED)
LEARNED = Play("learned prices", learned=True)
BY_LND = Play("LND", market=False, by_lnd=True)


def priced(price_sat: int) -> Play:
    """All sellers ask the same."""
    return MARKET if price_sat == MARKET_PRICE_SAT else Play(f"{price_sat} sat", True, price_sat)


def lying(honesty: Honesty) -> Play:
    """The first seller lies."""
    return Play(f"first seller {honesty.value}", first_seller=honesty)


LIARS = tuple(lying(one) for one in Honesty if one is not Honesty.HONEST)

BELIEVED = tuple(
    replace(one, name=f"{one.name}, every no is believed", believes_no=True)
    for one in (MARKET, lying(Honesty.NO), lying(Honesty.INVERTS))
)

PRICED: tuple[Play, ...] = (
    BY_LND,
    NO_MARKET,
    FREE,
    *(priced(price) for price in PRICES_SAT),
)
"""What hints are worth at each price."""

PLAYS: tuple[Play, ...] = (
    *PRICED,
    *LIARS,
    *BELIEVED,
    ABSTAINS,
    RESALE,
    FREE_RIDE,
    BLIND,
    INFORMED,
)
"""All but `LEARNED`, which takes longer runs."""
