"""Between what the daemon knows and the messages of its control service."""

from __future__ import annotations

from dataclasses import asdict

from lnagents.agent.actor import LearnerStats
from lnagents.agent.delegation_ledger import DelegationTotals
from lnagents.agent.forwarder import ForwarderState, ForwarderStatus
from lnagents.agent.ledger import PaymentRecord, PaymentState
from lnagents.agent.status import AgentStatus, ChannelStatus, PaymentReport, PurchaseReport
from lnagents.agent.stubs import control_pb2 as pb
from lnagents.model.view import RewardTerms

_STATES = {
    PaymentState.REQUESTED: pb.PAYMENT_STATE_REQUESTED,
    PaymentState.IN_FLIGHT: pb.PAYMENT_STATE_IN_FLIGHT,
    PaymentState.SETTLED: pb.PAYMENT_STATE_SETTLED,
    PaymentState.FAILED: pb.PAYMENT_STATE_FAILED,
}


def payment_message(record: PaymentRecord) -> pb.Payment:
    """One payment."""
    return pb.Payment(
        payment_hash=bytes.fromhex(record.payment_hash),
        destination=bytes.fromhex(record.destination),
        amount_msat=record.amount_msat,
        fee_msat=record.fee_msat,
        state=_STATES[record.state],
        preimage=record.preimage,
        reason=record.reason,
        attempts=record.attempts,
        failed_attempts=record.failed_attempts,
        purpose=record.purpose.value,
        requested_at=record.requested_at,
        resolved_at=record.resolved_at,
    )


def payment_report(message: pb.Payment) -> PaymentReport:
    """The same on the other side."""
    state = next(state for state, number in _STATES.items() if number == message.state)
    reason = message.reason
    if not state.final:
        reason = "still under way when time was up"
    return PaymentReport(
        payment_hash=message.payment_hash.hex(),
        destination=message.destination.hex(),
        amount_msat=message.amount_msat,
        fee_msat=message.fee_msat,
        state=state,
        preimage=message.preimage,
        reason=reason,
        attempts=message.attempts,
        failed_attempts=message.failed_attempts,
        purpose=message.purpose,
        requested_at=message.requested_at,
        resolved_at=message.resolved_at if message.HasField("resolved_at") else None,
    )


def purchase_message(report: PurchaseReport) -> pb.Purchase:
    """One document that was asked for."""
    return pb.Purchase(**asdict(report))


def purchase_report(message: pb.Purchase) -> PurchaseReport:
    """The same on the other side."""
    return PurchaseReport(
        nonce=message.nonce,
        price_msat=message.price_msat,
        document=message.document,
        paid_now=message.paid_now,
    )


_PLAIN = (
    "name",
    "network",
    "dry_run",
    "paused",
    "round",
    "fees_earned_msat",
    "fees_paid_msat",
    "forwards",
    "payments_settled",
    "payments_failed",
    "payments_in_flight",
    "attempts",
    "failed_attempts",
    "policy_updates",
    "hints_bought",
    "hint_costs_msat",
    "hints_sold",
    "hint_income_msat",
    "htlc_events",
)
"""Fields of `AgentStatus` that are the same in the message."""

_CHANNEL_PLAIN = (
    "peer_alias",
    "capacity_msat",
    "local_balance_msat",
    "remote_balance_msat",
    "active",
    "fee_rate_ppm",
    "base_fee_msat",
    "inbound_fee_rate_ppm",
)
_REWARD_PLAIN = (
    "fees_earned_msat",
    "fees_paid_msat",
    "hint_costs_msat",
    "hint_income_msat",
    "failed_attempts",
    "network_term",
    "forwarded_msat",
)
_FORWARDING_PLAIN = ("resumed", "refused", "settled", "late", "lost", "held", "p50_ms", "p99_ms")
_DELEGATION_PLAIN = ("settled", "earned_msat", "failed", "lost", "lost_msat")
_LEARNER_PLAIN = ("fee_updates", "route_updates", "mean_reward", "entropy", "value_loss")


def status_message(status: AgentStatus) -> pb.Status:
    """The agent now."""
    reward = None
    if status.reward_terms is not None and status.last_reward is not None:
        reward = pb.RewardTerms(**asdict(status.reward_terms), total=status.last_reward)
    return pb.Status(
        **{name: getattr(status, name) for name in _PLAIN},
        node=bytes.fromhex(status.node),
        channels=[
            pb.ChannelStatus(
                **{name: getattr(channel, name) for name in _CHANNEL_PLAIN},
                short_channel_id=channel.scid,
                peer=bytes.fromhex(channel.peer),
            )
            for channel in status.channels
        ],
        last_reward=reward,
        learner=pb.LearnerStatus(**asdict(status.learner)),
        forwarding=pb.ForwardingStatus(
            state=status.forwarding.state.value,
            **{name: getattr(status.forwarding, name) for name in _FORWARDING_PLAIN},
        ),
        delegation=pb.DelegationStatus(**asdict(status.delegation)),
        pass_key=bytes.fromhex(status.pass_key),
    )


def status(message: pb.Status) -> AgentStatus:
    """The same on the other side."""
    reward = message.last_reward if message.HasField("last_reward") else None
    return AgentStatus(
        **{name: getattr(message, name) for name in _PLAIN},
        node=message.node.hex(),
        channels=tuple(
            ChannelStatus(
                scid=channel.short_channel_id,
                peer=channel.peer.hex(),
                **{name: getattr(channel, name) for name in _CHANNEL_PLAIN},
            )
            for channel in message.channels
        ),
        reward_terms=None
        if reward is None
        else RewardTerms(**{name: getattr(reward, name) for name in _REWARD_PLAIN}),
        last_reward=None if reward is None else reward.total,
        learner=LearnerStats(**{name: getattr(message.learner, name) for name in _LEARNER_PLAIN}),
        forwarding=ForwarderStatus(
            ForwarderState(message.forwarding.state),
            **{name: getattr(message.forwarding, name) for name in _FORWARDING_PLAIN},
        ),
        delegation=DelegationTotals(
            **{name: getattr(message.delegation, name) for name in _DELEGATION_PLAIN}
        ),
        pass_key=message.pass_key.hex(),
    )
