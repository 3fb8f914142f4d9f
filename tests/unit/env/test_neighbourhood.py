"""What a node can tell about its neighbourhood."""

from __future__ import annotations

import numpy as np
import pytest

from lnagents.env.encoding import CHANNEL_FEATURE_NAMES, NODE_FEATURE_NAMES, Observation
from lnagents.env.neighbourhood import (
    NEIGHBOUR_FEATURES,
    Neighbourhood,
    neighbourhood,
    with_changes,
)

COLUMN = {name: place for place, name in enumerate(CHANNEL_FEATURE_NAMES)}


def test_it_is_a_mean_over_channels() -> None:
    channels = np.zeros((1, 1, 3, len(COLUMN)), np.float32)
    for name, values in {
        "peer_known": (1, 0, 1),
        "peer_fee_rate": (0.2, 0.9, 7.0),
        "local_share": (0.25, 0.75, 7.0),
        "inflow": (0.1, 0.0, 7.0),
        "outflow": (0.0, 0.3, 7.0),
    }.items():
        channels[0, 0, :, COLUMN[name]] = values
    mask = np.array([[[1, 1, 0]]], np.float32)
    assert neighbourhood(channels, mask)[0, 0].tolist() == pytest.approx([0.2, 0.0, 0.5, 0.0, 0.2])


def test_neither_padding_nor_order_shows_in_the_last_bit() -> None:
    random = np.random.default_rng(2)
    channels = random.random((23, len(COLUMN)), np.float32)
    for name in ("peer_known", "competing_known"):
        channels[:, COLUMN[name]] = random.integers(0, 2, 23)
    alone = neighbourhood(channels, np.ones(23, np.float32))
    padded = np.concatenate((channels[::-1], random.random((40, len(COLUMN)), np.float32)))
    mask = (np.arange(63) < 23).astype(np.float32)
    np.testing.assert_array_equal(neighbourhood(padded, mask), alone)


def test_changes_stand_beside_what_changed() -> None:
    random = np.random.default_rng(3)
    around = Neighbourhood()
    rounds = random.random((2, 4, len(COLUMN)), np.float32)
    whole = np.zeros(len(NODE_FEATURE_NAMES), np.float32)
    levels = [neighbourhood(one, np.ones(4, np.float32)) for one in rounds]
    seen = [around.look(Observation(one, whole, (1, 2, 3, 4))) for one in rounds]
    np.testing.assert_array_equal(seen[0], with_changes(levels[0], None))
    np.testing.assert_array_equal(seen[1], with_changes(levels[1], levels[0]))
    told = dict(zip(NEIGHBOUR_FEATURES, seen[1].tolist(), strict=True))
    assert seen[0][1] == seen[0][3] == 0.0
    assert told["peer_fee_rate_change"] == pytest.approx(levels[1][0] - levels[0][0], abs=1e-6)
    assert told["competing_fee_rate"] == levels[1][1]


def test_a_node_without_channels_sees_nothing() -> None:
    nothing = np.zeros((0, len(COLUMN)), np.float32)
    assert not neighbourhood(nothing, np.zeros(0, np.float32)).any()
