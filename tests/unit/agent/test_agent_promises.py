"""What was promised about fees stands between the actor and the node."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lnagents.agent.promises import FeePromises
from lnagents.market import FeeCommitment, QuotedHop, RouteQuote
from lnagents.model.graph import ChannelPolicy

SCID = 5
POLICY = ChannelPolicy(base_fee_msat=1_000, fee_rate_ppm=100)


class Setting:
    def __init__(self) -> None:
        self.now = 0.0
        self.policy: ChannelPolicy | None = POLICY
        self.promises = FeePromises(lambda scid: self.policy, clock=lambda: self.now)


def test_the_present_fee_is_promised_and_kept_until_then() -> None:
    setting = Setting()
    assert setting.promises.promise(SCID, 60.0) == (1_000, 100)
    dearer = replace(POLICY, base_fee_msat=2_000, fee_rate_ppm=500)
    assert setting.promises.held(SCID, dearer) == POLICY
    cheaper = replace(POLICY, base_fee_msat=0, fee_rate_ppm=50)
    assert setting.promises.held(SCID, cheaper) == cheaper
    mixed = replace(POLICY, base_fee_msat=0, fee_rate_ppm=500)
    assert setting.promises.held(SCID, mixed) == replace(mixed, fee_rate_ppm=100)
    assert setting.promises.held(SCID + 1, dearer) == dearer
    setting.now = 60.0
    assert setting.promises.held(SCID, dearer) == dearer


def test_what_is_not_known_is_not_promised() -> None:
    setting = Setting()
    setting.policy = None
    assert setting.promises.promise(SCID, 60.0) is None


def test_an_update_on_its_way_is_part_of_what_is_promised() -> None:
    setting = Setting()
    dearer = replace(POLICY, fee_rate_ppm=500)
    assert setting.promises.held(SCID, dearer) == dearer
    assert setting.promises.promise(SCID, 60.0) == (1_000, 500)


def test_promises_outlive_a_restart() -> None:
    setting = Setting()
    sold = FeeCommitment(
        issuer="02" * 33,
        issued_at=-10.0,
        expires_at=50.0,
        sequence=1,
        scid=SCID,
        base_fee_msat=10,
        fee_rate_ppm=1,
    )
    setting.promises.load([sold])
    held = setting.promises.held(SCID, POLICY)
    assert (held.base_fee_msat, held.fee_rate_ppm) == (10, 1)


def test_a_quoted_fee_is_kept_across_a_restart() -> None:
    setting = Setting()
    quote = RouteQuote(
        issuer="02" * 33,
        issued_at=-10.0,
        expires_at=50.0,
        sequence=1,
        destination="03" * 33,
        amount_msat=1_000,
        total_fee_msat=1_000,
        probability=0.5,
        hops=(QuotedHop(SCID, "03" * 33, 1_000),),
    )
    setting.promises.load([quote])
    dearer = replace(POLICY, fee_rate_ppm=500)
    assert setting.promises.held(SCID, dearer) == POLICY
    setting.now = 50.0
    assert setting.promises.held(SCID, dearer) == dearer


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9), st.integers(1, 30)),
        max_size=40,
    )
)
def test_no_promise_is_ever_broken(steps: list[tuple[bool, int, int, int]]) -> None:
    setting = Setting()
    given_: list[tuple[int, int, float]] = []
    for promise, base, rate, seconds in steps:
        if promise:
            fees = setting.promises.promise(SCID, setting.now + seconds)
            assert fees is not None
            given_.append((*fees, setting.now + seconds))
        else:
            wanted = replace(POLICY, base_fee_msat=base, fee_rate_ppm=rate)
            setting.policy = setting.promises.held(SCID, wanted)
        for most_base, most_rate, until in given_:
            if setting.now < until:
                assert setting.policy is not None
                assert setting.policy.base_fee_msat <= most_base
                assert setting.policy.fee_rate_ppm <= most_rate
        setting.now += 3
