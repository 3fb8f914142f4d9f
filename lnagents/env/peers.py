"""What a node can tell about other nodes: its peers, and those who compete for them.

For models that foresee others. Per own channel there is what gossip shows around its peer
(`PEER_FEATURES`), and what became of that and of the channel itself over the rounds
(`HISTORY_FEATURES`, kept by `PeerMemory`). What others do next is classified by how far a fee rate
moves (`MOVES`, `MOVE_SIZES`); that, too, is seen by the node itself, one round later. Only what
others have in their channels is hidden: `lnagents.env.twin_peers` tells it of twins, for training
and for scores.

As in `encoding`, the functions of numbers exist once: a daemon runs them as they are, the twin
compiles them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnagents.env.encoding import CHANNEL_FEATURE_NAMES, Observation
from lnagents.env.features import NATS_PER_RATE, Column, FloatArray, count_scale, rate_scale
from lnagents.model.graph import Channel
from lnagents.model.units import MSAT_PER_SAT, Msat, NodeKey, Ppm, ShortChannelId
from lnagents.model.view import NodeView

MoveArray: TypeAlias = NDArray[np.int64]

PEER_FEATURES = (
    Column("onward_known", "1 if the peer has announced channels to others, else 0"),
    Column("onward_channels", "how many, log scale, 0 for none, 1 for 100"),
    Column("onward_capacity", "log10 of their capacity in million sat, 0 if there are none"),
    Column("onward_low_rate", "lowest fee rate of the peer towards others, log scale; 0 if none"),
    Column("onward_fee_rate", "median of these fee rates"),
    Column("onward_high_rate", "highest of them"),
    Column("competing_channels", "channels of others to the same peer, log scale, 1 for 100"),
    Column("competing_low_rate", "lowest fee rate of others into the peer, log scale; 0 if none"),
    Column("competing_high_rate", "highest of them"),
)
"""The fields of `PeerFeatures`, explained; rates on the scale of `encoding`. Disabled directions
are left out."""

MOVES = ("peer_fee_rate", "competing_fee_rate", "onward_fee_rate")
"""Whose next move is foreseen: the peer's fee rate towards this node, the median of others into the
same peer, and the peer's median towards others."""

MOVE_SIZES = (0.03, 0.1, 0.25, 0.6, 1.5)
"""Where classes of moves end, in nats of 1 + ppm: about 3 %, 10 %, 28 %, 82 %, and 4.5 times. They
are the same up and down; the largest moves come first and last, no move at all in the middle."""

UNMOVED = len(MOVE_SIZES) + 1
"""The class of no move at all."""

UNKNOWN = -1
"""Instead of a class: there was no such fee rate, now or the round before."""

LIQUIDITY_BINS = 10
"""Of equal width, of the share of a channel's balance that is on the peer's side."""

DECAY = 0.8
"""Weight of the past in averages, per round."""

FORGOTTEN = 100
"""Rounds after which it no longer matters when something was last seen."""

_AVERAGED = ("inflow", "outflow", "sent", "received", "failed_share")

HISTORY_FEATURES = (
    *(
        Column(f"{name}_{what}", meaning)
        for what, meaning in (
            ("change", "how far it moved since the round before, on its scale"),
            ("last_change", "how far it moved when it moved last, this round included"),
            ("mean_offset", "its mean over the rounds so far less what it is now"),
            ("moved", "share of the rounds in which it moved"),
            ("rest", "rounds since it moved last, log scale, 0 for none, 1 for 100 and more"),
        )
        for name in MOVES
    ),
    Column("share_change", "how far the own share of the balance moved since the round before"),
    Column("share_mean_offset", "its mean over the rounds so far less what it is now"),
    Column("share_drift", "how far it moved since the channel was seen first"),
    *(Column(f"{name}_mean", "its mean over the rounds so far") for name in _AVERAGED),
    Column("rounds", "since the channel was seen first, log scale, 0 for none, 1 for 100 and more"),
)
"""What `PeerMemory` adds; means forget the past by `DECAY` a round."""

FORESIGHT_FEATURES = tuple(column.name for column in (*PEER_FEATURES, *HISTORY_FEATURES))
"""Columns of what a model of others is given beside the rows of `encoding`."""

_COLUMN = {name: place for place, name in enumerate(CHANNEL_FEATURE_NAMES)}
_PEER_COLUMN = {column.name: place for place, column in enumerate(PEER_FEATURES)}
_FLOWS = [_COLUMN[name] for name in _AVERAGED]
_ROUNDS = np.array([count_scale(count) for count in range(FORGOTTEN + 1)])


class PeerFacts(NamedTuple):
    """What gossip shows around the peer of one channel; rates in ppm, -1 where there are none."""

    onward: int
    """Directions from the peer to others than this node."""
    onward_capacity: Msat
    onward_low: Ppm
    onward_middle: Ppm
    onward_high: Ppm
    competing: int
    """Directions from others than this node to the peer."""
    competing_low: Ppm
    competing_high: Ppm


class PeerFeatures(NamedTuple):
    """One row; see `PEER_FEATURES`."""

    onward_known: float
    onward_channels: float
    onward_capacity: float
    onward_low_rate: float
    onward_fee_rate: float
    onward_high_rate: float
    competing_channels: float
    competing_low_rate: float
    competing_high_rate: float


def peer_features(facts: PeerFacts) -> PeerFeatures:
    """The row of one channel."""
    known = 1.0 if facts.onward > 0 else 0.0
    capacity = 0.0
    if facts.onward > 0:
        capacity = math.log10(max(1, facts.onward_capacity) / (1_000_000.0 * MSAT_PER_SAT))
    return PeerFeatures(
        onward_known=known,
        onward_channels=count_scale(facts.onward),
        onward_capacity=capacity,
        onward_low_rate=rate_scale(facts.onward_low),
        onward_fee_rate=rate_scale(facts.onward_middle),
        onward_high_rate=rate_scale(facts.onward_high),
        competing_channels=count_scale(facts.competing),
        competing_low_rate=rate_scale(facts.competing_low),
        competing_high_rate=rate_scale(facts.competing_high),
    )


def peer_facts(channels: Iterable[Channel], peer: NodeKey, own: NodeKey) -> PeerFacts:
    """What `own` sees around `peer`.

    Args:
        channels: all channels of `peer` that gossip shows.
        peer: the other end of one of the own channels.
        own: the node that looks; its own channels are left out.
    """
    onward: list[Ppm] = []
    competing: list[Ppm] = []
    capacity = 0
    for channel in channels:
        other = channel.node2 if channel.node1 == peer else channel.node1
        if other == own:
            continue
        leaving, entering = channel.edge_from(peer).policy, channel.edge_from(other).policy
        if leaving is not None and not leaving.disabled:
            onward.append(leaving.fee_rate_ppm)
            capacity += channel.capacity_msat
        if entering is not None and not entering.disabled:
            competing.append(entering.fee_rate_ppm)
    return PeerFacts(
        onward=len(onward),
        onward_capacity=capacity,
        onward_low=min(onward, default=-1),
        onward_middle=round(statistics.median(onward)) if onward else -1,
        onward_high=max(onward, default=-1),
        competing=len(competing),
        competing_low=min(competing, default=-1),
        competing_high=max(competing, default=-1),
    )


def peer_rows(view: NodeView) -> FloatArray:
    """[channels, `PEER_FEATURES`] of `view`, in the order of its channels."""
    peers = {channel.peer for channel in view.channels}
    around: dict[NodeKey, list[Channel]] = {peer: [] for peer in peers}
    for channel in view.graph.channels.values():
        for end in (channel.node1, channel.node2):
            if end in peers:
                around[end].append(channel)
    rows = [
        peer_features(peer_facts(around[channel.peer], channel.peer, view.node))
        for channel in view.channels
    ]
    return np.array(rows, np.float32).reshape(len(rows), len(PEER_FEATURES))


@dataclass(frozen=True, slots=True, eq=False)
class Foresight:
    """What there is to foresee from at one moment, and what there was to foresee before."""

    features: FloatArray
    """[..., channels, `FORESIGHT_FEATURES`]."""
    moves: MoveArray
    """[..., channels, `MOVES`], the classes of the moves since the round before, or `UNKNOWN`."""


class PeerMemory:
    """What is remembered of channels and their peers, round after round; rows keep their places.

    Only arithmetic without rounding of its own is used, so one row gives the same numbers alone as
    among many.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def look(self, channels: FloatArray, peers: FloatArray) -> Foresight:
        """Take in one round.

        Args:
            channels: [..., channels, `CHANNEL_FEATURES`].
            peers: [..., channels, `PEER_FEATURES`].
        """
        if self._kept is None:
            self._kept = _Kept.blank(channels.shape[:-1])
        return _look(self._kept, channels, peers)

    def rearrange(self, places: Sequence[int]) -> None:
        """Row r becomes what was row `places[r]`, or one that was never seen if that is negative.

        Only where there is one axis of rows.
        """
        if self._kept is not None:
            self._kept = self._kept.rearranged(places)


class NodeMemory:
    """The same for one node by its views, whose channels come and go."""

    def __init__(self) -> None:
        self._memory = PeerMemory()
        self._scids: tuple[ShortChannelId, ...] = ()

    def look(self, view: NodeView, observation: Observation) -> Foresight:
        """Take in one round; rows are in the order of the view's channels.

        Args:
            view: what the node sees.
            observation: `encoding.encode` of it.
        """
        if observation.scids != self._scids:
            before = {scid: place for place, scid in enumerate(self._scids)}
            self._memory.rearrange([before.get(scid, -1) for scid in observation.scids])
            self._scids = observation.scids
        return self._memory.look(observation.channels, peer_rows(view))


@dataclass(slots=True, eq=False)
class _Kept:
    """Per channel: [..., channels] or [..., channels, `MOVES`], all of them numbers."""

    rounds: NDArray[np.int64]
    """Seen so far."""
    weight: NDArray[np.float64]
    """Of what was summed up for means."""
    rates: NDArray[np.float64]
    known: NDArray[np.bool_]
    rate_sum: NDArray[np.float64]
    last_change: NDArray[np.float64]
    moved_sum: NDArray[np.float64]
    rest: NDArray[np.int64]
    share: NDArray[np.float64]
    first_share: NDArray[np.float64]
    share_sum: NDArray[np.float64]
    flow_sum: NDArray[np.float64]
    """[..., channels, flows]."""

    @classmethod
    def blank(cls, shape: tuple[int, ...]) -> _Kept:
        moves, flows = (*shape, len(MOVES)), (*shape, len(_FLOWS))
        return cls(
            rounds=np.zeros(shape, np.int64),
            weight=np.zeros(shape),
            rates=np.zeros(moves),
            known=np.zeros(moves, np.bool_),
            rate_sum=np.zeros(moves),
            last_change=np.zeros(moves),
            moved_sum=np.zeros(moves),
            rest=np.full(moves, FORGOTTEN, np.int64),
            share=np.zeros(shape),
            first_share=np.zeros(shape),
            share_sum=np.zeros(shape),
            flow_sum=np.zeros(flows),
        )

    def rearranged(self, places: Sequence[int]) -> _Kept:
        kept = _Kept.blank((len(places),))
        now = np.array([place for place, old in enumerate(places) if old >= 0], np.intp)
        old = np.array([old for old in places if old >= 0], np.intp)
        for name in _Kept.__slots__:
            getattr(kept, name)[now] = getattr(self, name)[old]
        return kept


def _look(kept: _Kept, channels: FloatArray, peers: FloatArray) -> Foresight:
    """Update `kept` in place."""
    rates = np.stack(
        (
            channels[..., _COLUMN["peer_fee_rate"]],
            channels[..., _COLUMN["competing_fee_rate"]],
            peers[..., _PEER_COLUMN["onward_fee_rate"]],
        ),
        -1,
    ).astype(np.float64)
    known = np.stack(
        (
            channels[..., _COLUMN["peer_known"]],
            channels[..., _COLUMN["competing_known"]],
            peers[..., _PEER_COLUMN["onward_known"]],
        ),
        -1,
    ) > np.float32(0.0)
    share = channels[..., _COLUMN["local_share"]].astype(np.float64)
    flows = channels[..., _FLOWS].astype(np.float64)
    first = kept.rounds == 0
    before = np.where(first, share, kept.share)
    kept.first_share = np.where(first, share, kept.first_share)
    both = known & kept.known
    change = np.where(both, rates - kept.rates, 0.0)
    moved = change != 0.0
    kept.last_change = np.where(moved, change, kept.last_change)
    kept.rest = np.where(moved, 0, np.minimum(kept.rest + 1, FORGOTTEN))
    kept.weight = DECAY * kept.weight + (1.0 - DECAY)
    weight = kept.weight[..., None]
    kept.rate_sum = DECAY * kept.rate_sum + (1.0 - DECAY) * rates
    kept.moved_sum = DECAY * kept.moved_sum + (1.0 - DECAY) * moved
    kept.share_sum = DECAY * kept.share_sum + (1.0 - DECAY) * share
    kept.flow_sum = DECAY * kept.flow_sum + (1.0 - DECAY) * flows
    kept.rates, kept.known, kept.share = rates, known, share
    history = (
        change,
        kept.last_change,
        kept.rate_sum / weight - rates,
        kept.moved_sum / weight,
        _ROUNDS[kept.rest],
        (share - before)[..., None],
        (kept.share_sum / kept.weight - share)[..., None],
        (share - kept.first_share)[..., None],
        kept.flow_sum / weight,
        _ROUNDS[np.minimum(kept.rounds, FORGOTTEN)][..., None],
    )
    kept.rounds = kept.rounds + 1
    return Foresight(
        features=np.concatenate((peers, *history), -1, dtype=np.float32),
        moves=np.where(both, move_classes(change * NATS_PER_RATE), UNKNOWN),
    )


def move_classes(change: NDArray[np.float64]) -> MoveArray:
    """The classes of moves by `change` nats, see `MOVE_SIZES`."""
    size = np.searchsorted(MOVE_SIZES, np.abs(change), side="right") + 1
    return UNMOVED + np.sign(change).astype(np.int64) * size
