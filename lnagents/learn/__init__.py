"""Actors and critics in torch; they know arrays and names of columns, not Lightning.

`networks` has the permutation-equivariant actor-critic and the route head, `ppo` the algorithm as
functions, `adam` the optimiser, `normaliser` the running scale of returns, `online` the learner
that a daemon feeds round by round, `demand` how it sets a trained actor's prices right,
`checkpoint` its saved form.

Teams are trained in many environments at once: `task` is what they are trained on, `settings` how,
`algorithms` who sees what (IPPO, MAPPO, mean-field PPO); `policy` decides, `acting` does so
quickly, `memory` is what agents remember if they do, `player` takes them through an episode,
`rollout` collects, `improve` learns, `trainer` joins them, `team_checkpoint` is the saved form. One
agent of a team acts alone as a `single.SingleActor`; a daemon goes on learning from it by
`OnlineLearner.adopt`.

Nothing here changes torch's global state (threads, seeds): a process that runs beside others does
well to call `torch.set_num_threads(1)` itself.
"""

from lnagents.learn.config import LearnConfig
from lnagents.learn.demand import PriceColumns
from lnagents.learn.experience import Action, ChannelArrays, RouteChoice, UpdateReport
from lnagents.learn.online import OnlineLearner

__all__ = [
    "Action",
    "ChannelArrays",
    "LearnConfig",
    "OnlineLearner",
    "PriceColumns",
    "RouteChoice",
    "UpdateReport",
]
