"""Leaving the rest of a way to another agent: on which terms, quoted by it or offered to it."""

from __future__ import annotations

from lnagents.agent.config import AgentConfig
from lnagents.agent.orders import Relay
from lnagents.market import Browser, Seller
from lnagents.market.forwarding import ForwardRequest
from lnagents.model.errors import MarketError, PaymentError
from lnagents.model.payment import Invoice
from lnagents.model.units import Msat, NodeKey, format_msat

UNQUOTED_BLOCKS = 600
"""Beyond what the invoice asks for, an agent without a quote gets so many blocks: for its own
delta, and six hops of LND's default of 80."""


async def ask_relay(
    config: AgentConfig, key: NodeKey, invoice: Invoice, max_fee_msat: Msat | None
) -> Relay:
    """The agent `key`, on the terms that it quotes for `invoice`.

    It is asked if it is among `market.buy.sellers`. If it is not, it is offered `max_fee_msat`, of
    which it keeps what it does not spend: so that has to be given.

    Raises:
        PaymentError: it finds no way, asks for more than `max_fee_msat`, or is not known.
    """
    seller = next((one for one in config.market.buy.sellers if one.key == key), None)
    if seller is None:
        if max_fee_msat is None:
            problem = "is not among market.buy.sellers, so a fee has to be named that it is offered"
            raise PaymentError(f"{key} {problem}")
        return Relay(key, None, invoice.final_cltv_delta + UNQUOTED_BLOCKS)
    request = ForwardRequest(invoice.destination, invoice.amount_msat, invoice.final_cltv_delta)
    try:
        async with Browser() as browser:
            quote = await browser.forward_quote(Seller(seller.url, key), request)
    except MarketError as exc:
        raise PaymentError(str(exc)) from exc
    if max_fee_msat is not None and quote.fee_msat > max_fee_msat:
        asked, limit = format_msat(quote.fee_msat), format_msat(max_fee_msat)
        raise PaymentError(f"{key} asks for a fee of {asked}, which is more than {limit}")
    return Relay(key, quote.fee_msat, quote.time_lock, quote.quote_seal)
