"""Actor, critic, their losses and all gradients in one sweep over experience, block by block.

What `lnagents.learn.improve` comes to with torch's own gradients, for the case that most trainings
are: agents that share their weights, actions for rows and no choices, PPO's clipped objective, a
critic that sees what its agent sees, nothing remembered and no model of the others trained along.
A block goes through everything before the next one is looked at, in room that is the same for all
blocks, so that little but results leaves the processor's cache. `blocks` is what is compiled of it;
it reads torch's weights where they lie, and writes gradients where torch looks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from lnagents.learn import blocks
from lnagents.learn.blocks import Actor, Critic, Encoder, Layer, Room, Terms, Told, Turned
from lnagents.learn.experience import FloatArray
from lnagents.learn.networks import ChannelActor, ChannelCritic, SetEncoder
from lnagents.learn.row_sets import Layout
from lnagents.model.kernel import direct

SMALL = 640 * 32 * 32
"""About as many products of two numbers make a product of matrices: OpenBLAS takes matrices as they
lie up to a million, and half as much again is in some blocks."""

_act, _judge = direct(blocks.act), direct(blocks.judge)


def block_rows(hidden: int) -> int:
    """About as many rows has a block of a sweep."""
    return max(1, SMALL // hidden**2)


@dataclass(frozen=True, slots=True, eq=False)
class Lived:
    """What actor and critic are judged by; rows and sets are in the layout's order."""

    values: Tensor
    """[rows, row features]."""
    whole: Tensor
    """[sets, whole features]."""
    sample: Tensor
    """[rows, actions], before the bound."""
    log_prob: Tensor
    """[rows], when it was drawn."""
    advantages: Tensor
    """[rows]."""
    acted: Tensor | None
    """[rows], 1 for decisions that the actor learns from; None: all."""
    targets: Tensor
    """[sets]."""
    judged: Tensor | None
    """[sets], 1 for values that the critic learns from; None: all."""


class Swept(NamedTuple):
    """What a sweep came to, see `lnagents.learn.improve.Improvement`."""

    divergence: float
    value_loss: float


class Sweep:
    """Sweeps over the same experience again and again."""

    def __init__(
        self, actor: ChannelActor, critic: ChannelCritic, lived: Lived, layout: Layout
    ) -> None:
        """Make all that does not change from pass to pass.

        Args:
            actor: without copies; may be changed in place between sweeps, as the critic.
            critic: likewise.
            lived: what they are judged by.
            layout: of sets, each of which has a row, in blocks of about `block_rows`.

        Raises:
            ValueError: weights are views of others.
        """
        self._parameters = [*_parameters_of_actor(actor), *_parameters_of_critic(critic)]
        if not all(one.is_contiguous() for one in self._parameters):
            raise ValueError("weights that do not lie side by side cannot be swept")
        self._actor, self._critic = _networks(iter([one.detach() for one in self._parameters]))
        sizes = [one.numel() for one in self._parameters]
        self._gradient = torch.zeros(sum(sizes))
        shaped = zip(self._gradient.split_with_sizes(sizes), self._parameters, strict=True)
        self._gradients = [part.view(one.shape) for part, one in shaped]
        self._of_actor, self._of_critic = _networks(iter(self._gradients))
        width = len(self._actor.head.bias)
        self._told = _told(lived, layout, width)
        self._room = _room(self._told, self._actor)
        self._bounds = actor.least, actor.most

    def __call__(self, clip: float, value_weight: float, entropy_weight: float) -> Swept:
        """Once over all of it, with the networks as they are now; `give` has the gradients.

        Args:
            clip: see `lnagents.learn.ppo.clipped_objective`.
            value_weight: of the critic's loss.
            entropy_weight: of the exploration's entropy.
        """
        told, room = self._told, self._room
        counted = (max(1.0, float(one.sum())) for one in (told.acted, told.judged))
        terms = Terms(clip, value_weight, entropy_weight, *self._bounds, *counted)
        self._gradient.zero_()
        away = _act(told, self._actor, self._of_actor, room, terms)
        missed = _judge(told, self._critic, self._of_critic, room, terms)
        return Swept(away / terms.acted, missed / terms.judged)

    def give(self) -> None:
        """The last sweep's gradients, to the parameters of actor and critic; until the next one."""
        for one, gradient in zip(self._parameters, self._gradients, strict=True):
            one.grad = gradient


def _parameters_of_actor(actor: ChannelActor) -> Iterator[nn.Parameter]:
    yield from _parameters_of_encoder(actor.encoder)
    for layer in (actor.head[0], actor.head[2]):
        yield from _parameters_of_layer(layer)
    yield actor.log_deviation


def _parameters_of_critic(critic: ChannelCritic) -> Iterator[nn.Parameter]:
    yield from _parameters_of_encoder(critic.encoder)
    yield from _parameters_of_layer(critic.last)


def _parameters_of_encoder(encoder: SetEncoder) -> Iterator[nn.Parameter]:
    rows = cast(nn.Sequential, encoder.rows)
    for layer in (rows[0], rows[2], encoder.whole[0]):
        yield from _parameters_of_layer(layer)


def _parameters_of_layer(layer: nn.Module) -> Iterator[nn.Parameter]:
    yield cast(nn.Parameter, layer.weight)
    yield cast(nn.Parameter, layer.bias)


def _networks(numbers: Iterator[Tensor]) -> tuple[Actor, Critic]:
    """Views of `numbers`, which come in the order of the functions above."""

    def layer() -> Layer:
        return Layer(next(numbers).numpy(), next(numbers).numpy())

    def encoder() -> Encoder:
        return Encoder(layer(), layer(), layer())

    return Actor(encoder(), layer(), layer(), next(numbers).numpy()), Critic(encoder(), layer())


def _told(lived: Lived, layout: Layout, width: int) -> Told:
    runs = [
        (
            run.rows.start,
            run.sets.start - block.sets.start,
            run.sets.stop - run.sets.start,
            run.each,
        )
        for block in layout.blocks
        for run in block.runs
    ]
    ends = [(len(block.runs), block.rows.stop, block.sets.stop) for block in layout.blocks]
    begins = np.array([(0, 0, 0), *ends])
    begins[:, 0] = begins[:, 0].cumsum()
    rows, sets = len(lived.values), len(lived.whole)
    pooled = torch.cat((lived.whole.new_empty(sets, 2 * width), lived.whole), 1)

    def mask(given: Tensor | None, size: int) -> FloatArray:
        return np.ones(size, np.float32) if given is None else given.contiguous().numpy()

    return Told(
        blocks=begins,
        runs=np.array(runs),
        values=lived.values.contiguous().numpy(),
        pooled=pooled.numpy(),
        share=layout.share.flatten().numpy(),
        sample=lived.sample.t().contiguous().numpy(),
        log_prob=lived.log_prob.contiguous().numpy(),
        advantages=lived.advantages.contiguous().numpy(),
        acted=mask(lived.acted, rows),
        targets=lived.targets.contiguous().numpy(),
        judged=mask(lived.judged, sets),
    )


def _room(told: Told, actor: Actor) -> Room:
    width, inputs = len(actor.head.bias), actor.encoder.first.weight.shape[1]
    actions = len(actor.last.bias)
    _, rows, sets = np.diff(told.blocks, axis=0).max(0).tolist()

    def room(*shape: int) -> FloatArray:
        return np.empty(shape, np.float32)

    def like(layer: Layer) -> Layer:
        return Layer(np.empty_like(layer.weight), np.empty_like(layer.bias))

    encoder = Encoder(*map(like, actor.encoder))
    head = Layer(room(width, width), room(width))
    pooled = told.pooled.shape[1]
    square = (width, width)
    return Room(
        turned=Turned(
            first=room(inputs, width),
            second=room(*square),
            whole=room(pooled, width),
            means=room(*square),
            tops=room(*square),
            from_rows=room(*square),
            from_sets=room(*square),
            to_rows=room(*square),
            to_sets=room(*square),
            last=room(width, actions),
        ),
        parts=Actor(encoder, head, like(actor.last), np.empty_like(actor.log_deviation)),
        first=room(rows, width),
        second=room(rows, width),
        hidden=room(rows, width),
        of_second=room(rows, width),
        of_hidden=room(rows, width),
        mean=room(rows, actions),
        of_mean=room(rows * actions),
        log_ratio=room(rows),
        of_ratio=room(rows),
        total=room(sets, width),
        top=room(sets, width),
        of_top=room(sets, width),
        context=room(sets, width),
        of_context=room(sets, width),
        common=room(sets, width),
        value=room(sets, 1),
    )
