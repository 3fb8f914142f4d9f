"""A promise about fees, broken by a real node, and proved by what it signed itself."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from dataclasses import replace

from lnagents.market import FeeCommitment, sign_document
from lnagents.market.documents.signature import is_gossip_signature
from lnagents.market.evidence import (
    Verdict,
    judge_evidence,
    judge_policy,
    parse_channel_update,
)
from lnagents.model.payment import AttemptStatus, FailureCode
from lnagents.testbed import Testbed
from lnagents.testbed.waiting import wait_until

AMOUNT_MSAT = 10_000_000


async def test_a_failed_attempt_brings_the_proof_of_a_broken_promise(testbed: Testbed) -> None:
    alice, carol = testbed.client("alice"), testbed.client("carol")
    carol_key = testbed.nodes["carol"].key
    graph = await alice.graph()
    # Some channel of carol that does not lead back to alice.
    edge = next(
        edge
        for edge in graph.edges()
        if edge.source == carol_key and edge.target != testbed.nodes["alice"].key
    )
    old = edge.policy
    assert old is not None
    point = graph.channels[edge.scid].channel_point
    route = await alice.build_route(AMOUNT_MSAT, [carol_key, edge.target])
    commitment = FeeCommitment(
        issuer=carol_key,
        issued_at=time.time(),
        expires_at=time.time() + 60,
        sequence=1,
        scid=edge.scid,
        base_fee_msat=old.base_fee_msat,
        fee_rate_ppm=old.fee_rate_ppm,
    )
    signed = await sign_document(carol, commitment)
    # Gossip counts whole seconds: the next one is certainly after the promise.
    await asyncio.sleep(math.ceil(commitment.issued_at) - commitment.issued_at + 0.1)
    dearer = replace(old, fee_rate_ppm=old.fee_rate_ppm + 500)
    await carol.set_policy(point, dearer)
    try:
        # The route pays what was promised, and carol refuses it.
        attempt = await alice.send_to_route(secrets.token_bytes(32).hex(), route)
        assert attempt.status is AttemptStatus.FAILED
        assert attempt.failure is not None
        assert attempt.failure.code is FailureCode.FEE_INSUFFICIENT
        update = parse_channel_update(attempt.failure.policy_update)
        assert update.scid == edge.scid
        assert update.policy.fee_rate_ppm == dearer.fee_rate_ppm
        assert is_gossip_signature(update.signature, update.signed, carol_key)
        statement, finding = judge_evidence(signed, [attempt.failure.policy_update])
        assert (statement.issuer, finding.verdict) == (carol_key, Verdict.FALSE)

        # Who has a node of its own hears of it anyway.
        async def heard() -> bool:
            channel = await testbed.client("grace").channel(edge.scid)
            policy = channel.edge_from(carol_key).policy
            return judge_policy(commitment, policy, time.time()).verdict is Verdict.FALSE

        await wait_until(heard, timeout=30.0, complaint=lambda: "grace never heard of it")
    finally:
        await asyncio.sleep(1.1)
        await carol.set_policy(point, old)
        await alice.reset_mission_control()
        await testbed.wait_gossip()
