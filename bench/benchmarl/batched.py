"""Our batch of environments as one vectorised environment of TorchRL's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from lnagents.env.arrays import ActionArrays, RoundArrays
from lnagents.env.batch import LightningBatch
from lnagents.env.encoding import ACTION_NAMES


class BatchedEnv(EnvBase):
    """`LightningBatch` with one vector an agent for what it sees, and one for what it does."""

    def __init__(self, batch: LightningBatch, group: str, seed: int | None, device: Any) -> None:
        super().__init__(device=device, batch_size=[len(batch)])
        self._lightning, self._group = batch, group
        shape = (len(batch), batch.agents)
        width = _vectors(RoundArrays.empty(batch.agents, batch.max_channels, (1,))).shape[-1]
        actions = batch.max_channels * len(ACTION_NAMES)

        def grouped(**specs: Any) -> Composite:
            return Composite({group: Composite(specs, shape=shape)}, shape=shape[:1])

        self.observation_spec = grouped(observation=Unbounded((*shape, width)))
        self.action_spec = grouped(action=Bounded(-1.0, 1.0, (*shape, actions)))
        self.reward_spec = grouped(reward=Unbounded((*shape, 1)))
        flag = Categorical(2, shape=(len(batch), 1), dtype=torch.bool)
        names = ("done", "terminated", "truncated")
        self.done_spec = Composite({name: flag.clone() for name in names}, shape=shape[:1])
        self._set_seed(seed)

    def _set_seed(self, seed: int | None) -> None:
        self._seeds = np.random.default_rng(seed)

    def _seen(self, arrays: RoundArrays, **more: Any) -> TensorDict:
        group = {"observation": torch.from_numpy(_vectors(arrays)), **more}
        shape = (len(self._lightning), self._lightning.agents)
        return TensorDict({self._group: TensorDict(group, shape)}, shape[:1])

    def _reset(self, tensordict: TensorDictBase | None, **given: Any) -> TensorDictBase:
        # All episodes end at once, so all begin at once.
        seeds = self._seeds.integers(0, 2**31, len(self._lightning)).tolist()
        return self._with_flags(self._seen(self._lightning.reset(seeds)), over=False)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        batch = self._lightning
        fees = tensordict[self._group, "action"].numpy()
        shape = (len(batch), batch.agents, batch.max_channels, len(ACTION_NAMES))
        result = batch.step(ActionArrays(np.ascontiguousarray(fees).reshape(shape)))
        rewards = torch.from_numpy(result.rewards).float().unsqueeze(-1)
        return self._with_flags(self._seen(result.seen, reward=rewards), over=result.over)

    def _with_flags(self, seen: TensorDict, *, over: bool) -> TensorDict:
        for name, value in (("done", over), ("terminated", False), ("truncated", over)):
            seen[name] = torch.full((len(self._lightning), 1), value)
        return seen


def _vectors(arrays: RoundArrays) -> Any:
    """[batch, agents, width], parts in the order of `lnagents.env.flat`."""
    rows = arrays.channels.reshape(*arrays.channels.shape[:2], -1)
    return np.concatenate((arrays.channel_mask, rows, arrays.node), -1, dtype=np.float32)
