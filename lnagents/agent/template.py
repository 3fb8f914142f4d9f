"""The `agent.toml` that `lnagents agent init` writes for its user to adapt."""

from __future__ import annotations

import json

from lnagents.env.heuristics import HEURISTICS

TEMPLATE = """\
# Configuration of one lnagents agent. Relative paths start at this file's folder.
name = {name}
data_directory = "data"
# "live" carries decisions out, "dry-run" only logs them. Without this line: live on regtest,
# dry-run on every other network.
# mode = "dry-run"

[lnd]
address = {address}
tls_certificate = {tls_certificate}
# Best one that `lnagents agent bake` made: it allows what the agent needs and nothing else.
macaroon = {macaroon}
network = {network}

# Money that may leave, fees included. All are mandatory, and no decision gets past them.
[limits]
per_payment_msat = 50_000_000
per_hour_msat = 100_000_000
per_day_msat = 500_000_000
max_fee_msat = 100_000
max_fee_ppm = 10_000
hint_per_purchase_msat = 20_000
hint_per_hour_msat = 100_000
hint_per_day_msat = 500_000

[rounds]
seconds = 600.0
# Rounds that begin only when `lnagents agent step` asks for them:
# on_request = true

# Hard bounds of the own fees.
[fees]
min_ppm = 0
max_ppm = 2_000
min_base_msat = 0
max_base_msat = 2_000
max_inbound_discount_ppm = 0
max_updates_per_hour = 12
max_updates_per_hour_per_channel = 2

[actor]
# "ppo" learns from nothing and needs torch (pip install "lnagents[learn]"); "fixed" keeps fees as
# they are.
kind = "ppo"
seed = 0
# Go on from a team that `lnagents train` trained; with learn = false decide as it does, and learn
# nothing. agent says which of its agents to be, if each has weights of its own.
# method says how it goes on learning: "demand" moves its fees to the level that earns most by what
# forwards say, "ppo" changes its weights by what each round brought.
# kind = "trained"
# checkpoint = "runs/mine/checkpoint.pt"
# learn = false
# method = "demand"
# agent = 0
# Or follow rules, without torch: {heuristics}.
# kind = "heuristic"
# heuristic = "proportional"

# Sell hints: the own Aperture sends requests to the service and asks the pricer for prices.
# [market.sell]
# service_port = 9080
# pricer_port = 9081
# price_sat = 2

# Buy hints; one such section for each seller.
# [[market.buy.sellers]]
# url = "https://aperture.example"
# key = "02..."
# Or find them in node announcements, and buy priority, too, where it is worth its price:
# [market.buy]
# discover = true
# passes = true

# Sell priority, too: keep a share of each channel free for holders of passes. Needs a macaroon with
# the role forwarder, and "pass" among market.sell.products.
# [forwarding]
# reserved_share = 0.1

# Find the rest of a way for others, who pay by the HTLC itself. The node has to be started with
# requireinterceptor=true: it then forwards nothing while no agent runs, and gives nothing back that
# an agent has paid for. Also with store-final-htlc-resolutions=true it can tell an agent that was
# away how each HTLC ended.
# [forwarding.delegation]
# base_fee_msat = 1_000
# fee_rate_ppm = 500
# max_amount_msat = 50_000_000

# Prometheus.
# [metrics]
# listen = "127.0.0.1:9735"
"""


def render_template(
    *, name: str, address: str, tls_certificate: str, macaroon: str, network: str
) -> str:
    """A commented configuration."""
    values = {
        "name": name,
        "address": address,
        "tls_certificate": tls_certificate,
        "macaroon": macaroon,
        "network": network,
    }
    # JSON's strings are TOML's as well.
    written = {key: json.dumps(value) for key, value in values.items()}
    return TEMPLATE.format(**written, heuristics=", ".join(HEURISTICS))
