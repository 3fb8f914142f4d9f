"""Agents with linear levels: what weights say is what they do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lnagents.env.encoding import ACTION_NAMES, CHANNEL_FEATURE_NAMES, NODE_FEATURE_NAMES
from lnagents.env.features import rate_scale
from lnagents.env.fees import NATS_PER_LEVEL, RATE_OFFSET_PPM, moved_fee
from lnagents.env.heuristics.linear import HIGHEST_LEVEL, LinearLevels, balance_rule

CHANNELS, NODE = len(CHANNEL_FEATURE_NAMES), len(NODE_FEATURE_NAMES)


def row(**features: float) -> np.ndarray:
    values = [features.get(name, 0.0) for name in CHANNEL_FEATURE_NAMES]
    return np.array([values], np.float32)


def test_levels_are_sums_of_what_is_seen() -> None:
    levels = LinearLevels.of(
        {
            "fee_rate": {"constant": 0.1, "local_share": -0.4, "node.imbalance": 0.5},
            "base_fee": {"outflow": 0.25},
        }
    )
    node = np.zeros(NODE, np.float32)
    node[NODE_FEATURE_NAMES.index("imbalance")] = 0.6
    [found] = levels.levels(row(local_share=0.5, outflow=0.8), node)
    expected = {"fee_rate": 0.1 - 0.2 + 0.3, "base_fee": 0.2, "inbound_discount": 0.0}
    assert found == pytest.approx([expected[name] for name in ACTION_NAMES], abs=1e-6)


def test_many_agents_at_once_get_the_same_as_each_alone() -> None:
    rng = np.random.default_rng(5)
    weights = {
        action: {
            **dict(zip(CHANNEL_FEATURE_NAMES, rng.normal(size=CHANNELS).tolist(), strict=True)),
            **{f"node.{name}": float(rng.normal()) for name in NODE_FEATURE_NAMES},
        }
        for action in ACTION_NAMES
    }
    levels = LinearLevels.of(weights)
    channels = rng.random((3, 7, CHANNELS)).astype(np.float32)
    node = rng.random((3, NODE)).astype(np.float32)
    together = levels.levels(channels, node)
    for agent in range(3):
        alone = levels.levels(channels[agent, :4], node[agent])
        assert (together[agent, :4] == alone).all()
    assert np.abs(together).max() <= np.float32(HIGHEST_LEVEL)


@pytest.mark.parametrize("found", [5, 40, 400])
@pytest.mark.parametrize(("share", "expected"), [(0.5, 200.0), (0.0, 2_000.0), (1.0, 20.0)])
def test_a_rule_by_balance_charges_what_its_numbers_say(
    found: int, share: float, expected: float
) -> None:
    levels = LinearLevels.of(balance_rule(200, 100))
    [[level, _, _]] = levels.levels(
        row(local_share=share, found_fee_rate=rate_scale(found)), np.zeros(NODE, np.float32)
    )
    rate = found
    for _ in range(20):
        rate = moved_fee(found, rate, float(level), RATE_OFFSET_PPM, 0, 5_000, 0.0)
    highest = (found + RATE_OFFSET_PPM) * math.exp(NATS_PER_LEVEL * HIGHEST_LEVEL)
    # Small rates are on a linear scale, so a low found rate is not taken out entirely.
    exact = min(highest, (found + RATE_OFFSET_PPM) / (found + 1) * expected) - RATE_OFFSET_PPM
    lowest = (found + RATE_OFFSET_PPM) * math.exp(-NATS_PER_LEVEL * HIGHEST_LEVEL)
    assert rate == pytest.approx(max(exact, lowest - RATE_OFFSET_PPM), rel=0.02, abs=2)


def test_what_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'colour' is none of fee_rate"):
        LinearLevels.of({"colour": {}})
    with pytest.raises(ValueError, match="fee_rate: 'mood' is none of constant"):
        LinearLevels.of({"fee_rate": {"mood": 1.0}})
