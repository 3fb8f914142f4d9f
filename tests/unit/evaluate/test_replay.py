"""A recording runs again in the twin."""

from __future__ import annotations

import dataclasses

import pytest

from lnagents.evaluate.fidelity import compare_recordings
from lnagents.evaluate.fidelity_compare import compare
from lnagents.evaluate.recording import CaseSet, UpdateRecord
from lnagents.evaluate.replay import as_replay, network_of, replay, settings_of
from lnagents.model.errors import RecordingError
from lnagents.model.topology import PolicySpec, Profile
from lnagents.twin.network import BASE_FEE, MAX_HTLC
from lnagents.twin.settings import Estimator, GossipSettings, LatencySettings
from tests.unit.evaluate.recordings import (
    A_TO_B,
    B_TO_C,
    POLICY,
    REFUSED,
    SETTLED,
    attempt,
    line_topology,
    make_recording,
    payment,
)

FINAL_EXPIRY = 110 + 80 + 3
"""Height, what receivers ask for, and LND's `BlockPadding`."""


def test_the_network_is_the_recorded_one() -> None:
    network = network_of(make_recording())
    assert network.names == ("a", "b", "c")
    assert network.channel_nodes.tolist() == [[0, 1], [1, 2]]
    assert network.opener.tolist() == [0, 0]
    assert network.balance.tolist() == [[500_000_000, 500_000_000]] * 2
    assert network.policy[:, BASE_FEE].tolist() == [1_000] * 4
    assert network.policy[:, MAX_HTLC].tolist() == [990_000_000] * 4


def test_settings_come_from_the_nodes_options() -> None:
    plain = settings_of(make_recording())
    assert plain.sender.estimator is Estimator.APRIORI
    assert plain.sender.final_cltv_delta == 80
    assert plain.gossip == GossipSettings()
    assert plain.latency == LatencySettings.testbed()
    assert plain.block_height == 110
    assert settings_of(make_recording(case_set=CaseSet.HELD)).latency == LatencySettings()
    options = (
        "--routerrpc.estimator=bimodal",
        "--bitcoin.timelockdelta=90",
        "--gossip.sub-batch-delay=250ms",
        "--gossip.max-channel-update-burst=2",
        "--gossip.channel-update-interval=1h",
    )
    own = settings_of(make_recording(topology=line_topology(options)))
    assert own.sender.estimator is Estimator.BIMODAL
    assert own.sender.final_cltv_delta == 90
    assert own.gossip == dataclasses.replace(
        GossipSettings(),
        sub_batch_delay=0.25,
        max_channel_update_burst=2,
        channel_update_interval=3_600.0,
    )
    slow = line_topology().model_copy(update={"profile": Profile.MAINNET})
    assert settings_of(make_recording(topology=slow)).gossip == GossipSettings.mainnet()


def test_a_twin_has_the_same_settings_for_all_nodes() -> None:
    topology = line_topology()
    first = topology.nodes[0].model_copy(update={"lnd": ("--routerrpc.estimator=bimodal",)})
    mixed = topology.model_copy(update={"nodes": (first, *topology.nodes[1:])})
    with pytest.raises(RecordingError, match=r"options for LND differ"):
        settings_of(make_recording(topology=mixed))
    longer = topology.channels[0].model_copy(
        update={"reverse_policy": PolicySpec(time_lock_delta=40)}
    )
    uneven = topology.model_copy(update={"channels": (longer, topology.channels[1])})
    with pytest.raises(RecordingError, match=r"ask for different time locks"):
        settings_of(make_recording(topology=uneven))


def test_the_twin_comes_to_its_own_results() -> None:
    """a pays c 10,000 sat over b for 1 sat and 100 ppm; then more than b has."""
    recording = make_recording(case_set=CaseSet.SINGLE)
    replayed = replay(recording)
    settled, refused = replayed.payments
    assert (settled.reason, settled.fee_msat) == ("", 2_000)
    assert [hop for one in settled.attempts for hop in one.hops] == [
        (A_TO_B, 10_002_000, FINAL_EXPIRY + 80),
        (B_TO_C, 10_000_000, FINAL_EXPIRY),
    ]
    assert settled.attempts[0].code == 0
    # b's own channel holds 490,000,000 msat less reserve and fees: enough for 400,000,000.
    assert refused.reason == ""
    # What moved in the twin, not in the recording.
    moved = [(10_002_000 + 400_041_000), (10_000_000 + 400_000_000)]
    assert [first for first, _ in replayed.balance_msat] == [500_000_000 - one for one in moved]
    case = compare_recordings([recording]).cases[0]
    assert case.first_divergence is not None


def test_a_change_of_policy_happens_in_its_place() -> None:
    dear = POLICY._replace(base_fee_msat=5_000)
    later = payment(
        attempt((A_TO_B, 10_006_000), (B_TO_C, 10_000_000), started=9.0), at=9.0, fee_msat=6_000
    )
    update = UpdateRecord(at=5.0, edge=B_TO_C, policy=dear)
    recording = make_recording((SETTLED, update, later), case_set=CaseSet.STALE)
    fees = [one.fee_msat for one in replay(recording).payments]
    assert fees == [2_000, 6_000]


def test_payments_one_after_the_other_or_together() -> None:
    """b can pay a with what it was paid before, but not with what is still on its way."""
    there = payment(source="a", target="b", at=1.0, amount_msat=300_000_000)
    back = payment(source="b", target="a", at=1.001, amount_msat=600_000_000)
    reasons = {}
    for case_set in (CaseSet.SINGLE, CaseSet.CONCURRENT):
        replayed = replay(make_recording((there, back), case_set=case_set))
        reasons[case_set] = [one.reason for one in replayed.payments]
    assert reasons == {
        CaseSet.SINGLE: ["", ""],
        # In all its channels together b has enough, so LND does not call it insufficient balance.
        CaseSet.CONCURRENT: ["", "no_route"],
    }


def test_the_same_recording_gives_the_same_replay() -> None:
    recording = make_recording((SETTLED, REFUSED))
    assert replay(recording) == replay(recording)


def test_a_second_live_run_is_compared_like_a_twin() -> None:
    """Also if its channels were opened in another order."""
    first = make_recording()
    turned = {0: 2, 1: 3, 2: 0, 3: 1}
    steps = tuple(
        step.model_copy(
            update={
                "attempts": tuple(
                    one.model_copy(
                        update={
                            "hops": tuple(hop._replace(edge=turned[hop.edge]) for hop in one.hops)
                        }
                    )
                    for one in step.attempts
                )
            }
        )
        for step in first.payments
    )
    end = first.end
    again = first.model_copy(
        update={
            "channels": first.channels[::-1],
            "steps": steps,
            "end": end.model_copy(
                update={
                    "balance_msat": end.balance_msat[::-1],
                    "listed_sat": end.listed_sat[::-1],
                }
            ),
        }
    )
    case = compare(first, as_replay(first, again))
    assert case.same_sequences
    assert not case.channels
    unlike = compare(first, as_replay(first, first.model_copy(update={"steps": steps})))
    assert not unlike.same_sequences
    with pytest.raises(RecordingError, match=r"not the same case"):
        as_replay(first, make_recording((SETTLED,)))
