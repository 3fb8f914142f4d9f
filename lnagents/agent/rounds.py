"""One round: observe, reward the round before, decide, hold it against the limits, carry it out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

import structlog

from lnagents.agent.actor import Actor
from lnagents.agent.config import AgentConfig
from lnagents.agent.limits import FeeRequest, FeeVerdict, judge_fees
from lnagents.agent.observer import Observer
from lnagents.agent.promises import FeePromises
from lnagents.agent.store import DecisionRecord, Store
from lnagents.env import reward, reward_terms
from lnagents.lnd import LndClient
from lnagents.model.errors import LndError
from lnagents.model.graph import ChannelPolicy
from lnagents.model.units import Msat, format_short_channel_id
from lnagents.model.view import ChannelDecision, ChannelView, NodeDecision, NodeView, RewardTerms

_log = structlog.get_logger("lnagents.agent.rounds")


class Rounds:
    """The rounds of one agent."""

    def __init__(
        self,
        *,
        client: LndClient,
        store: Store,
        observer: Observer,
        actor: Actor,
        promises: FeePromises,
        config: Callable[[], AgentConfig],
        number: int,
    ) -> None:
        """`number` is the last round that the store knows."""
        self._client = client
        self._store = store
        self._observer = observer
        self._actor = actor
        self._promises = promises
        self._config = config
        self.number = number
        self.paused = False
        self.policy_updates = 0
        """By this process."""
        self.terms: RewardTerms | None = None
        """Of the last round that ended, as the next."""
        self.reward: Msat | float | None = None
        self.on_prices: Callable[[Mapping[str, int]], None] | None = None
        """Told the prices of each decision, if anything is sold."""
        self._decided = False

    async def step(self) -> None:
        """Live one round.

        Raises:
            LndError: the node could not be observed; the round did not take place.
        """
        number = self.number + 1
        view = await self._observer.view(number)
        self._store.record_round(number, view.time, _observation_text(view))
        # Both at once: what is cancelled further on finds the round in the store and here.
        ended, self.number = self.number, number
        if ended:
            await self._reward(ended, view)
        if self.paused:
            self._note("node", "kept", "", "paused")
            self._decided = False
            return
        config = self._config()
        decision = await self._actor.decide(view, config.fees)
        self._decided = True
        if self.on_prices is not None:
            self.on_prices(decision.prices_sat)
        await self._carry_out(view, decision, config)

    async def _reward(self, ended: int, view: NodeView) -> None:
        """Judge the round `ended`, which `view` ends, by what its decision brought."""
        self.terms = reward_terms(view)
        self.reward = reward(self.terms, self._config().reward.weights())
        self._store.record_reward(ended, self.terms, self.reward)
        _log.info("reward", round=ended, total_msat=round(self.reward), **asdict(self.terms))
        if self._decided:
            await self._actor.reward(self.reward)

    async def _carry_out(self, view: NodeView, decision: NodeDecision, config: AgentConfig) -> None:
        channels = [channel for channel in view.channels if channel.active]
        points = await self._channel_points()
        requests = [
            FeeRequest(
                points[channel.scid],
                channel.policy,
                decision.channels.get(channel.scid, ChannelDecision()),
            )
            for channel in channels
        ]
        recent = await self._store.recent_fee_updates(time.time())
        verdicts = judge_fees(config.fees, requests, recent)
        for channel, request, verdict in zip(channels, requests, verdicts, strict=True):
            await self._carry_out_one(channel, request, verdict, dry_run=config.dry_run)
        for channel in view.channels:
            if not channel.active:
                subject = format_short_channel_id(channel.scid)
                self._note(subject, "kept", "", "the channel cannot be used now")

    async def _channel_points(self) -> dict[int, str]:
        local = await self._observer.local_channels(60.0)
        return {scid: channel.channel_point for scid, channel in local.items()}

    async def _carry_out_one(
        self, channel: ChannelView, request: FeeRequest, verdict: FeeVerdict, *, dry_run: bool
    ) -> None:
        subject = format_short_channel_id(channel.scid)
        wanted = request.decision.reason
        if verdict.policy is None:
            if wanted:
                self._note(subject, "refused", wanted, verdict.reason)
            else:
                self._note(subject, "kept", "", "nothing that is worth an update")
            return
        change = _change(channel.policy, verdict.policy)
        reason = "; ".join(filter(None, (wanted, verdict.reason))) or "outside the fee bounds"
        if dry_run:
            self._note(subject, "dry_run", change, reason)
            return
        if int(time.time()) <= channel.policy.last_update:
            # Gossip counts whole seconds: the other nodes would never take this update over.
            self._note(subject, "refused", change, "the last update is not a second old")
            return
        policy = self._promises.held(channel.scid, verdict.policy)
        if policy != verdict.policy:
            reason = f"{reason}; cut down to what is promised"
            change = _change(channel.policy, policy)
            if not change:
                self._note(subject, "refused", wanted, "a fee commitment holds")
                return
        await self._store.reserve_fee_update(request.channel_point, time.time())
        try:
            await self._client.set_policy(request.channel_point, policy)
        except LndError as exc:
            self._note(subject, "failed", change, str(exc))
            return
        self.policy_updates += 1
        self._note(subject, "applied", change, reason)

    def _note(self, subject: str, verdict: str, change: str, reason: str) -> None:
        self.record_decision(subject, verdict, change, reason)

    def record_decision(self, subject: str, verdict: str, change: str, reason: str) -> None:
        """Note a decision of this round, or why there is none."""
        self._store.record_decision(
            DecisionRecord(self.number, time.time(), subject, verdict, change, reason)
        )
        log = _log.debug if verdict == "kept" else _log.info
        log("decision", subject=subject, verdict=verdict, change=change, reason=reason)


def _change(old: ChannelPolicy, new: ChannelPolicy) -> str:
    parts = [
        f"{name} {before}→{after}"
        for name, before, after in (
            ("ppm", old.fee_rate_ppm, new.fee_rate_ppm),
            ("base_msat", old.base_fee_msat, new.base_fee_msat),
            ("inbound_ppm", old.inbound_fee_rate_ppm, new.inbound_fee_rate_ppm),
            ("inbound_base_msat", old.inbound_base_fee_msat, new.inbound_base_fee_msat),
            ("max_htlc_msat", old.max_htlc_msat, new.max_htlc_msat),
        )
        if before != after
    ]
    return ", ".join(parts)


def _observation_text(view: NodeView) -> str:
    """What the round saw of the own node; the graph is too large to repeat each time."""
    return json.dumps(
        {
            "fees_paid_msat": view.fees_paid_msat,
            "payments_settled": view.payments_settled,
            "payments_failed": view.payments_failed,
            "failed_attempts": view.failed_attempts,
            "hint_costs_msat": view.hint_costs_msat,
            "hint_income_msat": view.hint_income_msat,
            "graph_channels": len(view.graph.channels),
            "channels": [
                {
                    "scid": format_short_channel_id(channel.scid),
                    "local_msat": channel.local_balance_msat,
                    "remote_msat": channel.remote_balance_msat,
                    "active": channel.active,
                    "fee_rate_ppm": channel.policy.fee_rate_ppm,
                    "base_fee_msat": channel.policy.base_fee_msat,
                    "inbound_fee_rate_ppm": channel.policy.inbound_fee_rate_ppm,
                    "competing_ppm": channel.competing_ppm,
                    "flow": asdict(channel.flow),
                }
                for channel in view.channels
            ],
        }
    )
