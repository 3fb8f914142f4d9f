"""Agents learn fees by evolution: on the twin, or on live nodes with the other line for `world`."""

import numpy as np

from lnagents.env import EnvSettings, LightningEnv, LiveWorld, TwinWorld  # noqa: F401
from lnagents.testbed import load_topology

world = TwinWorld.of_topology(load_topology("default"))
# world = LiveWorld(load_topology("default"))
env = LightningEnv(world, settings=EnvSettings(rounds=10))
rng = np.random.default_rng(0)
shape = env.observation_space(env.possible_agents[0])["channels"].shape[1], 3
weights = {agent: np.zeros(shape) for agent in env.possible_agents}
for generation in range(40):
    noise = {agent: rng.normal(0.0, 0.3, shape) for agent in weights}
    earned = {sign: dict.fromkeys(weights, 0.0) for sign in (1, -1)}
    for sign in earned:  # the same payments twice, with opposite changes of the weights
        seen, _ = env.reset(seed=generation)
        while env.agents:
            fees = {a: np.tanh(seen[a]["channels"] @ (weights[a] + sign * noise[a])) for a in seen}
            seen, *_, infos = env.step({agent: {"fees": fees[agent]} for agent in env.agents})
            for agent in weights:
                earned[sign][agent] += infos[agent]["fees_earned_msat"] / 1_000
    for agent in weights:
        weights[agent] += 0.3 * np.sign(earned[1][agent] - earned[-1][agent]) * noise[agent]
    print(f"{generation}: {sum(earned[1].values()):,.0f} sat in fees")
env.close()
