"""BenchMARL's IPPO on `LightningEnv`, one iteration for each line on standard input.

`lnagents bench train` starts this in BenchMARL's own environment (`make bench-env`) and says in
JSON what to train on. After each iteration comes a line of JSON: a `TrainSide`. See
`lnagents.evaluate.bench_train` for what is equal on both sides.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from batched import BatchedEnv
from benchmarl.algorithms import IppoConfig
from benchmarl.environments.common import TaskClass
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.common import ModelConfig
from benchmarl.models.mlp import MlpConfig
from rows import RowsConfig
from torchrl.data import Composite
from torchrl.envs import EnvBase
from torchrl.envs.libs.pettingzoo import PettingZooWrapper

from lnagents.env.batch import LightningBatch
from lnagents.env.flat import FlatLightningEnv
from lnagents.env.lightning import LightningEnv
from lnagents.env.twin_world import TwinWorld
from lnagents.evaluate.bench_train import LEARNING_RATE, SEED, Rival, TrainBenchSpec
from lnagents.learn.settings import TrainSettings

GROUP = "agents"


class Silent(FlatLightningEnv):
    """Tells nothing but what is needed to learn; TorchRL's wrapper copies every info otherwise."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """See `LightningEnv.reset`."""
        observations, infos = super().reset(seed, options)
        return observations, {agent: {} for agent in infos}

    def step(self, actions: dict[str, Any]) -> Any:
        """See `LightningEnv.step`."""
        *results, infos = super().step(actions)
        return (*results, {agent: {} for agent in infos})


class LightningTask(TaskClass):
    """`LightningEnv` with vectors for observations and actions, as BenchMARL wants tasks."""

    def __init__(self, spec: TrainBenchSpec, rival: Rival) -> None:
        super().__init__("lightning", {})
        self._spec, self._rival = spec, rival
        self._network = spec.network()
        self._names = spec.agent_names(self._network)

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any
    ) -> Callable[[], EnvBase]:
        """One environment, of which BenchMARL puts as many as it needs side by side; or a batch."""

        def world() -> TwinWorld:
            return TwinWorld(self._network, self._names)

        def batch() -> EnvBase:
            worlds = [world() for _ in range(num_envs)]
            made = LightningBatch(worlds, self._spec.demand(), self._spec.settings())
            return BatchedEnv(made, GROUP, seed, device)

        def make() -> EnvBase:
            env = LightningEnv(world(), self._spec.demand(), self._spec.settings())
            groups = {GROUP: self._names}
            flat = FlatLightningEnv(env) if self._rival.infos else Silent(env)
            return PettingZooWrapper(flat, group_map=groups, seed=seed, device=device)

        return batch if self._rival.batched else make

    def supports_continuous_actions(self) -> bool:
        """Fees are numbers."""
        return True

    def supports_discrete_actions(self) -> bool:
        """They are not."""
        return False

    def max_steps(self, env: EnvBase) -> int:
        """Length of an episode."""
        return self._spec.rounds

    def has_render(self, env: EnvBase) -> bool:
        """Nobody looks."""
        return False

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """All agents are one group: they share weights."""
        return {GROUP: self._names}

    def observation_spec(self, env: EnvBase) -> Composite:
        """Without `infos`, which are for logs."""
        spec = env.observation_spec_unbatched.clone()
        for key in list(spec[GROUP].keys()):
            if key != "observation":
                del spec[GROUP][key]
        return spec

    def info_spec(self, env: EnvBase) -> Composite | None:
        """None are wanted."""
        return None

    def state_spec(self, env: EnvBase) -> Composite | None:
        """IPPO looks at no joint state."""
        return None

    def action_spec(self, env: EnvBase) -> Composite:
        """One vector for each agent."""
        return env.full_action_spec_unbatched

    def action_mask_spec(self, env: EnvBase) -> Composite | None:
        """All numbers may be set."""
        return None

    @staticmethod
    def env_name() -> str:
        """What BenchMARL calls it."""
        return "lightning"


class Turns(Callback):
    """Waits for its turn before every iteration, and tells what it took."""

    def __init__(self, steps: int, told: int) -> None:
        super().__init__()
        self._steps = steps
        self._told = told  # no file object: BenchMARL pickles its callbacks
        self._began = self._collected = 0.0

    def wait(self) -> None:
        """Until there is a line."""
        if not sys.stdin.readline():
            sys.exit()
        self._began = time.process_time()

    def on_batch_collected(self, batch: Any) -> None:
        """BenchMARL has experience."""
        self._collected = time.process_time()

    def on_train_end(self, training_td: Any, group: str) -> None:
        """BenchMARL has learned from it; what it does until the next batch is collecting."""
        seconds = {"collect": self._collected - self._began}
        seconds["train"] = time.process_time() - self._collected
        loss = self.experiment.losses[group]
        side = {
            "parameters": sum(one.numel() for one in loss.parameters() if one.requires_grad),
            "where": {name: 1e6 * value / self._steps for name, value in seconds.items()},
        }
        os.write(self._told, f"{json.dumps(side)}\n".encode())
        self.wait()


def experiment(
    spec: TrainBenchSpec, rival: Rival, iterations: int, folder: str, turns: Turns
) -> Experiment:
    """What `spec` and `rival` ask for; everything else is BenchMARL's default."""
    ours = TrainSettings()
    config = ExperimentConfig.get_from_yaml()
    config.lr = LEARNING_RATE
    config.gamma = ours.discount
    config.clip_grad_val = ours.max_gradient_norm
    config.on_policy_collected_frames_per_batch = spec.steps
    config.on_policy_n_envs_per_worker = spec.environments
    config.on_policy_n_minibatch_iters = spec.epochs
    config.on_policy_minibatch_size = spec.steps // spec.minibatches
    config.max_n_frames, config.max_n_iters = None, iterations
    config.evaluation = config.render = config.create_json = False
    config.loggers = []
    config.save_folder = folder
    algorithm = IppoConfig.get_from_yaml()
    algorithm.clip_epsilon = ours.clip
    algorithm.lmbda = ours.trace_decay
    algorithm.critic_coef = ours.value_weight
    algorithm.entropy_coef = ours.entropy.start
    task = LightningTask(spec, rival)
    model: ModelConfig = RowsConfig(spec.hidden)
    if not rival.rows:
        model = MlpConfig.get_from_yaml()
        model.num_cells = [spec.hidden, spec.hidden]
        model.activation_class = torch.nn.ReLU
    return Experiment(task, algorithm, model, SEED, config, callbacks=[turns])


def main() -> None:
    """Train as the argument says."""
    # Libraries write to standard output, too; what is told is told on a copy of it.
    told = os.dup(1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    iterations, rival = given.pop("iterations"), Rival(**given.pop("rival"))
    spec = TrainBenchSpec(**given)
    turns = Turns(spec.steps, told)
    with tempfile.TemporaryDirectory() as folder:
        chosen = experiment(spec, rival, iterations, folder, turns)
        turns.wait()
        chosen.run()


if __name__ == "__main__":
    main()
