"""What HTML pages of results are made of: each page needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from lnagents.evaluate.statistics import Estimate

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2731; max-width: 1040px; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; }
h2 { font-size: 1.35rem; margin-top: 3rem; border-top: 1px solid #e3e8ec; padding-top: 1rem; }
h3 { font-size: 1.08rem; margin: 2rem 0 .4rem; } h4 { font-size: 1rem; margin: 1rem 0 .3rem; }
.facts, .note { color: #5a6875; } .note { font-size: .9rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #e3e8ec; }
th:first-child, td:first-child { text-align: left; } thead th { color: #5a6875; font-weight: 600; }
.better { color: #237a4b; } .worse { color: #b3392f; }
.summary { background: #f3f6f9; border-radius: 8px; padding: .8rem 1.2rem; }
.summary p { margin: .3rem 0; } .summary + .summary { margin-top: .8rem; }
pre { background: #f3f6f9; padding: .8rem; overflow-x: auto; font-size: .85rem; }
.wide { overflow-x: auto; } .wide td { white-space: nowrap; }
.wide td .note { font-size: .8rem; } .wide th { font-size: .9rem; padding: .35rem .4rem; }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole page; plotly's script is inside it, nothing is fetched."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def chart(figure: go.Figure, element: str) -> str:
    """A picture; `element` is its id on the page."""
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=element,
        config={"displayModeBar": False, "responsive": True},
    )
    return f'<div class="wide">{html}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table from cells that are HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    whole = f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="wide">{whole}</div>'


def number(value: float) -> str:
    """With as many digits as its size deserves; a dash for what is not known."""
    if math.isnan(value):
        return "–"
    digits = 0 if abs(value) >= 1_000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def estimate(found: Estimate) -> str:
    """A number with its interval, in one line; a dash for what is not known."""
    if math.isnan(found.value):
        return "–"
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def stacked(found: Estimate) -> str:
    """The same for a cell of a table: the interval below the number."""
    if math.isnan(found.value):
        return "–"
    interval = f"{number(found.low)} … {number(found.high)}"
    return f'{number(found.value)}<br><span class="note">{interval}</span>'


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
