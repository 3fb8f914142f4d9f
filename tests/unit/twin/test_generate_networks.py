from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnagents.model.generate import Split
from lnagents.model.topology import OPENER_COSTS_SAT, RESERVE_FRACTION
from lnagents.model.units import MSAT_PER_SAT
from lnagents.twin.balances import BalanceSettings
from lnagents.twin.components import components, in_largest_component
from lnagents.twin.describe import describe
from lnagents.twin.generate import barabasi_albert, mainnet_like
from lnagents.twin.network import Network

# Of the public network, as the README of its snapshot has them (and `lnagents.twin.figures` not).
CAPACITY_SAT = (20_000, 200_000, 1_280_000, 5_000_000, 15_700_000, 200_000_000)
FEE_RATE_PPM = (1, 1, 100, 569, 2_000, 10_000)
BASE_FEE_MSAT = (0, 0, 33, 1_000, 1_000, 10_000)
CHANNELS_PER_NODE = (1, 1, 1, 3, 8, 74)


def equal(one: Network, other: Network) -> bool:
    arrays = ("scids", "channel_nodes", "capacity", "opener", "balance", "policy")
    return one.names == other.names and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def test_a_mainnet_like_network_has_the_figures_of_the_public_one() -> None:
    figures = describe(mainnet_like(17_324, 5))
    assert figures.components == 1
    assert figures.channels == pytest.approx(50_808, rel=0.03)
    assert figures.pairs == pytest.approx(47_868, rel=0.03)
    assert figures.disabled_share == pytest.approx(0.35, abs=0.01)
    assert figures.capacity_sat_quantiles == pytest.approx(CAPACITY_SAT, rel=0.05)
    assert figures.fee_rate_ppm_quantiles == pytest.approx(FEE_RATE_PPM, rel=0.15)
    # Between 0 and 1,000 msat the distribution is nearly flat: 33 is one of few such values.
    assert figures.base_fee_msat_quantiles == pytest.approx(BASE_FEE_MSAT, rel=0.1, abs=25)
    low, middle, high = (figures.time_lock_delta_quantiles[index] for index in (0, 2, 4))
    assert (low, middle, high) == (40, 80, 144)
    assert figures.channels_per_node_quantiles == pytest.approx(CHANNELS_PER_NODE, rel=0.25)


def test_large_channels_join_large_nodes_and_fee_rates_belong_to_nodes() -> None:
    network = mainnet_like(3_000, 1, disabled=False)
    size = np.bincount(network.channel_nodes.reshape(-1))
    smaller = size[network.channel_nodes].min(axis=1)
    large = network.capacity > np.quantile(network.capacity, 0.8)
    assert smaller[large].mean() > 2 * smaller[~large].mean()
    rate = np.log1p(network.policy[:, 1])
    source = network.edge_source()
    own_mean = np.bincount(source, rate) / np.bincount(source)
    assert 0.6 < ((rate - own_mean[source]) ** 2).mean() / rate.var() < 0.8


@settings(max_examples=40)
@given(st.integers(2, 60), st.integers(0, 2**32))
def test_mainnet_like_networks_are_whole_and_seeded(nodes: int, seed: int) -> None:
    network = mainnet_like(nodes, seed)
    assert network.nodes == nodes
    assert not components(nodes, network.channel_nodes).any()
    assert (network.channel_nodes[:, 0] != network.channel_nodes[:, 1]).all()
    assert equal(network, mainnet_like(nodes, seed))


@pytest.mark.parametrize(("nodes", "channels"), [(100, 475), (500, 2_475), (1_000, 4_975)])
def test_barabasi_albert(nodes: int, channels: int) -> None:
    network = barabasi_albert(nodes, 3)
    assert (network.nodes, network.channels) == (nodes, channels)
    assert equal(network, barabasi_albert(nodes, 3))
    assert not equal(network, barabasi_albert(nodes, 4))
    figures = describe(network)
    assert figures.components == 1
    assert figures.pairs == channels
    assert (
        max(np.bincount(network.channel_nodes.reshape(-1)))
        > 5 * figures.channels_per_node_quantiles[2]
    )


@pytest.mark.parametrize(("nodes", "degree"), [(5, 5), (5, 0), (1, 1)])
def test_impossible_sizes(nodes: int, degree: int) -> None:
    with pytest.raises(ValueError, match="degree"):
        barabasi_albert(nodes, 0, degree=degree)
    with pytest.raises(ValueError, match="less than 2"):
        mainnet_like(1, 0)


@given(st.sampled_from(Split), st.integers(0, 2**32))
def test_drawn_balances_are_ones_that_lnd_allows(split: Split, seed: int) -> None:
    network = mainnet_like(30, seed, balances=BalanceSettings(split))
    assert network.balance.min() >= 0
    assert not (network.balance % MSAT_PER_SAT).any()
    row = np.arange(network.channels)
    of_opener = network.balance[row, network.opener] // MSAT_PER_SAT
    capacity = network.capacity // MSAT_PER_SAT
    least = np.minimum(np.rint(capacity * RESERVE_FRACTION) + OPENER_COSTS_SAT, capacity)
    assert (of_opener >= least).all()


def shares(settings: BalanceSettings) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    network = barabasi_albert(2_000, 0, balances=settings)
    share: np.ndarray[tuple[int], np.dtype[np.float64]] = network.balance[:, 0] / network.capacity
    return share


def test_splits_are_distributed_as_stated() -> None:
    assert shares(BalanceSettings(Split.EVEN)) == pytest.approx(0.5, abs=1e-6)
    levels = (0.1, 0.25, 0.5, 0.75, 0.9)
    uniform = np.quantile(shares(BalanceSettings(Split.UNIFORM)), levels)
    assert uniform == pytest.approx(levels, abs=0.02)
    middle = shares(BalanceSettings(Split.BETA, beta=20.0))
    assert middle.std() == pytest.approx(np.sqrt(1 / (4 * 41)), rel=0.05)
    ends = shares(BalanceSettings(Split.BETA, beta=0.05))
    assert ((ends < 0.05) | (ends > 0.95)).mean() > 0.8


def test_bimodal_balances_fall_off_from_both_ends() -> None:
    scale = 300_000_000
    network = barabasi_albert(4_000, 0, balances=BalanceSettings(Split.BIMODAL))
    large = network.capacity > 10 * scale
    # What the side that did not open the channel holds: the other has a reserve to keep.
    part = network.balance[large, 1 - network.opener[large].astype(np.int64)]
    near = part[part < 5 * scale]
    assert len(near) == pytest.approx(large.sum() / 2, rel=0.05)
    assert np.median(near) == pytest.approx(np.log(2) * scale, rel=0.05)


def test_balance_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="bimodal_scale_msat: 0 is not positive"):
        BalanceSettings(bimodal_scale_msat=0)
    with pytest.raises(ValueError, match="beta: -1 is not positive"):
        BalanceSettings(beta=-1)


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60))
def test_components(nodes: int, joined: list[tuple[int, int]]) -> None:
    pairs = [(one % nodes, other % nodes) for one, other in joined]
    expected = list(range(nodes))
    for one, other in pairs:
        low, high = sorted((expected[one], expected[other]))
        expected = [low if label == high else label for label in expected]
    channels = np.array(pairs, np.int32).reshape(-1, 2)
    assert components(nodes, channels).tolist() == expected
    inside = in_largest_component(nodes, channels)
    assert inside.sum() == max(expected.count(label) for label in expected)
    assert len({label for label, kept in zip(expected, inside, strict=True) if kept}) == 1
