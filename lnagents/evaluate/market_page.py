"""The market on a report's page: who sold what to whom, at what prices, and what it was worth."""

from __future__ import annotations

from collections import defaultdict
from html import escape

import plotly.graph_objects as go

from lnagents.evaluate.figures import COLOURS, style
from lnagents.evaluate.page import chart, number, table
from lnagents.evaluate.trades import MarketRecord, Trade
from lnagents.model.units import MSAT_PER_SAT

DASHES = {"liquidity": "solid", "commitment": "dash", "route": "dot", "pass": "dashdot"}
"""Of the lines, by product."""
MARKS = {"liquidity": "circle", "commitment": "square", "route": "diamond", "pass": "cross"}
"""Of what was bought, by product."""


def market_section(market: MarketRecord) -> list[str]:
    """Parts of the page: a summary, tables, and prices over time."""
    parts = [f'<p class="summary">{escape(_summary(market))}</p>']
    if market.trades:
        parts += ["<h3>Sales</h3>", _sales(market), "<h3>Spent and earned</h3>", _purses(market)]
    if market.prices:
        parts += [
            "<h3>Prices over time</h3>",
            '<p class="note">Lines are what sellers asked, marks what was bought.</p>',
            chart(prices(market), "market-prices"),
        ]
    if market.scores:
        parts += [
            "<h3>What it was worth</h3>",
            '<p class="note">Each statement is held against what happened, by Brier: the mean '
            "square of probability minus outcome, 0 at best. The skill is the share of the buyer's "
            "own error that the statements remove; a new seller is trusted at first. Promises are "
            "kept or broken.</p>",
            _scores(market),
        ]
    return parts


def prices(market: MarketRecord) -> go.Figure:
    """What each seller asked for each product, and at what price it was bought."""
    sellers = sorted({one.seller for one in market.prices} | {one.seller for one in market.trades})
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sellers)}
    asked: dict[tuple[str, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for change in market.prices:
        times, values = asked[change.seller, change.product]
        times.append(max(0.0, change.at_seconds))
        values.append(change.price_sat)
    moments = [one.at_seconds for one in market.prices]
    end = max(moments + [one.at_seconds for one in market.trades])
    figure = go.Figure()
    for (seller, product), (times, values) in asked.items():
        figure.add_trace(
            go.Scatter(
                x=[*times, end],
                y=[*values, values[-1]],
                mode="lines",
                name=f"{seller}: {product}",
                legendgroup=f"{seller} {product}",
                line={"color": colours[seller], "dash": DASHES[product], "shape": "hv"},
            )
        )
    bought: dict[tuple[str, str], list[Trade]] = defaultdict(list)
    for trade in market.trades:
        bought[trade.seller, trade.product].append(trade)
    for (seller, product), trades in bought.items():
        figure.add_trace(
            go.Scatter(
                x=[trade.at_seconds for trade in trades],
                y=[trade.price_msat / MSAT_PER_SAT for trade in trades],
                mode="markers",
                name=f"{seller}: {product} bought",
                legendgroup=f"{seller} {product}",
                text=[trade.buyer for trade in trades],
                hovertemplate="%{text}: %{y:.0f} sat at %{x:.0f} s<extra></extra>",
                marker={"color": colours[seller], "symbol": MARKS[product], "size": 9},
            )
        )
    figure.update_xaxes(title="seconds since the run began")
    figure.update_yaxes(title="sat", rangemode="tozero")
    return style(figure, 380)


def _summary(market: MarketRecord) -> str:
    considered = f"Agents weighed {market.weighed:,} times whether information was worth its price"
    if not market.trades:
        return f"{considered} and bought none."
    spent = sum(trade.price_msat for trade in market.trades) / MSAT_PER_SAT
    counts: dict[str, int] = defaultdict(int)
    for trade in market.trades:
        counts[trade.product] += 1
    kinds = ", ".join(f"{product} {count:,}" for product, count in sorted(counts.items()))
    return (
        f"{considered}, and bought {len(market.trades):,} times ({kinds}) for {number(spent)} sat."
    )


def _sales(market: MarketRecord) -> str:
    sold: dict[tuple[str, str], list[Trade]] = defaultdict(list)
    for trade in market.trades:
        sold[trade.seller, trade.product].append(trade)
    rows = []
    for (seller, product), trades in sorted(sold.items()):
        revenue = sum(trade.price_msat for trade in trades) / MSAT_PER_SAT
        buyers = ", ".join(sorted({trade.buyer for trade in trades}))
        rows.append(
            (
                escape(seller),
                escape(product),
                f"{len(trades):,}",
                number(revenue),
                number(revenue / len(trades)),
                escape(buyers),
            )
        )
    return table(("seller", "product", "sold", "revenue, sat", "mean price, sat", "to"), rows)


def _purses(market: MarketRecord) -> str:
    spent: dict[str, float] = defaultdict(float)
    earned: dict[str, float] = defaultdict(float)
    for trade in market.trades:
        spent[trade.buyer] += trade.price_msat / MSAT_PER_SAT
        earned[trade.seller] += trade.price_msat / MSAT_PER_SAT
    rows = [
        (
            escape(name),
            number(spent[name]),
            number(earned[name]),
            number(earned[name] - spent[name]),
        )
        for name in sorted(spent.keys() | earned.keys())
    ]
    return table(("node", "spent, sat", "earned, sat", "balance, sat"), rows)


def _scores(market: MarketRecord) -> str:
    rows = [
        (
            escape(one.buyer),
            escape(one.seller),
            escape(one.product),
            f"{one.tested:,}",
            "" if one.brier is None else f"{one.brier:.3f}",
            "" if one.prior_brier is None else f"{one.prior_brier:.3f}",
            f"{one.skill:.2f}",
            f"{one.kept_promises:,} / {one.broken_promises:,}",
        )
        for one in market.scores
    ]
    head = (
        "buyer", "seller", "product", "tested", "Brier", "Brier without", "skill",
        "promises kept / broken",
    )  # fmt: skip
    return table(head, rows)
