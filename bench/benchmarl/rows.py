"""Our networks as a BenchMARL model: the same layers, with as many parameters, on the same rows.

Everything else stays as BenchMARL's users have it: observations and actions are one vector an
agent, gradients are torch's own, and rows are padded to the agent with the most channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from benchmarl.models.common import Model, ModelConfig
from tensordict import TensorDictBase

from lnagents.env.encoding import ACTION_NAMES, CHANNEL_FEATURE_NAMES, NODE_FEATURE_NAMES
from lnagents.evaluate.bench_train import SEED
from lnagents.learn.networks import ChannelActor, ChannelCritic, join
from lnagents.learn.settings import TrainSettings
from lnagents.learn.team import TeamSizes


class Rows(Model):
    """`ChannelActor` for the policy, `ChannelCritic` for the critic."""

    def __init__(self, hidden: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        ours = TrainSettings()
        sizes = TeamSizes(
            channel_features=CHANNEL_FEATURE_NAMES,
            node_features=NODE_FEATURE_NAMES,
            actions=ACTION_NAMES,
            choices=(),
            hidden=hidden,
            initial_deviation=ours.initial_deviation,
            min_deviation=ours.min_deviation,
            max_deviation=ours.max_deviation,
            copies=0,
            remembered=0,
            foreseen=0,
        )
        generator = torch.Generator().manual_seed(SEED)
        self.judges = self.output_leaf_spec.shape[-1] == 1
        kind = ChannelCritic if self.judges else ChannelActor
        self.network: Any = kind(sizes, generator)
        width = self.input_leaf_spec.shape[-1] - len(NODE_FEATURE_NAMES)
        most = width // (1 + len(CHANNEL_FEATURE_NAMES))
        # In a vector, parts are in the order of their names: channel_mask, channels, node.
        self.parts = (most, most * len(CHANNEL_FEATURE_NAMES), len(NODE_FEATURE_NAMES))

    def _forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        mask, rows, whole = tensordict.get(self.in_key).split(self.parts, -1)
        rows = rows.unflatten(-1, (mask.shape[-1], -1))
        embedded, context = self.network.encoder(rows, whole, mask)
        if self.judges:
            tensordict.set(self.out_key, self.network.last(context))
            return tensordict
        first, *others = self.network.head
        mean = join(first, embedded, context)
        for layer in others:
            mean = layer(mean)
        scale = self.network.log_deviation.expand_as(mean)
        tensordict.set(self.out_key, torch.cat((mean.flatten(-2), scale.flatten(-2)), -1))
        return tensordict


@dataclass
class RowsConfig(ModelConfig):
    """How wide."""

    hidden: int = 32

    @staticmethod
    def associated_class() -> type[Rows]:
        """What it makes."""
        return Rows
