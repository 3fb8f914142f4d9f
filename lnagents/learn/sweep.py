"""Actor, critic, their losses and all gradients in one sweep over experience, block by block.

What `lnagents.learn.improve` comes to with torch's own gradients, for the case that most trainings
are: agents that share their weights, actions for rows and no choices, PPO's clipped objective, a
critic that sees what its agent sees, nothing remembered and no model of the others trained along.
A block goes through everything before the next one is looked at, in room that is the same for all
blocks, so that little but results leaves the processor's cache. What does not change from pass to
pass, views into all of that included, is made once.

Gradients of weights are summed up as [inputs, outputs], and what concerns actions is kept as
[actions, rows]: products of matrices are up to twice as fast that way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from lnagents.learn.networks import ChannelActor, ChannelCritic, SetEncoder
from lnagents.learn.row_sets import NEAREST, Block, Layout, Run, pass_on


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What actor and critic are judged by; tensors of rows and sets are in the layout's order."""

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

    divergence: Tensor
    value_loss: Tensor


class Sweep:
    """Sweeps over the same experience again and again."""

    def __init__(
        self, actor: ChannelActor, critic: ChannelCritic, told: Told, layout: Layout
    ) -> None:
        """Make all that does not change from pass to pass.

        Args:
            actor: without copies; may be changed in place between sweeps, as the critic.
            critic: likewise.
            told: what they are judged by.
            layout: of sets, each of which has a row.
        """
        width = critic.last.weight.shape[-1]
        self._actor = actor
        self._acts, self._judges = _Encoder.of(actor.encoder), _Encoder.of(critic.encoder)
        self._head, self._last = _Layer.of(actor.head[0]), _Layer.of(actor.head[2])
        weight, of_weight = self._head.weight, self._head.of_weight
        self._head_rows, self._head_whole = weight[:, :width], weight[:, width:]
        self._of_head_rows, self._of_head_whole = of_weight[:width], of_weight[width:]
        self._value = _Layer.of(critic.last)
        # With so few outputs this way round takes a tenth of the time.
        self._of_last = torch.zeros_like(self._last.weight)
        self._of_deviation = torch.zeros_like(actor.log_deviation)
        self._half = torch.full_like(actor.log_deviation, -0.5)
        self._acted = len(told.values) if told.acted is None else float(told.acted.sum())
        self._judged = len(told.whole) if told.judged is None else float(told.judged.sum())
        self._blocks = _blocks(told, layout, width)

    @torch.no_grad()
    def __call__(self, clip: float, value_weight: float, entropy_weight: float) -> Swept:
        """Once over all of it, with the networks as they are now; `give` has the gradients.

        Args:
            clip: see `lnagents.learn.ppo.clipped_objective`.
            value_weight: of the critic's loss.
            entropy_weight: of the exploration's entropy.
        """
        for layer in self._layers():
            layer.of_weight.zero_()
            layer.of_bias.zero_()
        self._of_last.zero_()
        actor, log_deviation = self._actor, self._actor.log_deviation
        bounded = log_deviation.clamp(actor.least, actor.most)
        precision = bounded.neg().exp_().unsqueeze_(1)
        constant = bounded.sum().add_(0.5 * math.log(2.0 * math.pi) * len(bounded))
        steered = torch.zeros_like(log_deviation)
        away, missed = torch.zeros(()), torch.zeros(())
        for block in self._blocks:
            away += self._act(block, clip, precision, constant, steered)
            missed += self._judge(block, 2.0 * value_weight / max(1.0, self._judged))
        free = (log_deviation >= actor.least) & (log_deviation <= actor.most)
        self._of_deviation = torch.where(free, steered.sub_(entropy_weight), 0.0)
        return Swept(away / max(1.0, self._acted), missed / max(1.0, self._judged))

    def give(self) -> None:
        """The last sweep's gradients, to the parameters of actor and critic."""
        self._last.of_weight.copy_(self._of_last.t())
        for layer in self._layers():
            layer.give()
        self._actor.log_deviation.grad = self._of_deviation

    def _layers(self) -> tuple[_Layer, ...]:
        return (*self._acts.layers(), self._head, self._last, *self._judges.layers(), self._value)

    def _act(
        self, block: _Block, clip: float, precision: Tensor, constant: Tensor, steered: Tensor
    ) -> Tensor:
        """The actor's part; the sum of how far decisions are from the old actor's."""
        last, hidden = self._last, block.moved
        _encode(block, self._acts)
        torch.addmm(self._head.bias, block.context, self._head_whole.t(), out=block.common)
        for run in block.runs:
            run.moved.copy_(run.common)
        hidden.addmm_(block.second, self._head_rows.t()).relu_()
        mean = torch.mm(last.weight, hidden.t()).add_(last.bias.unsqueeze(1))
        # How much likelier the decisions are now than they were.
        scaled = torch.sub(block.sample, mean, out=mean).mul_(precision)
        squares = scaled.square()
        log_ratio = torch.mv(squares.t(), self._half).sub_(constant).sub_(block.log_prob)
        if block.acted is not None:
            log_ratio.mul_(block.acted)
        ratio = log_ratio.exp()
        # Where the clipped objective is the smaller one, nothing is gained by moving on.
        worth = ratio * block.advantages
        climbs = worth <= ratio.clamp(1.0 - clip, 1.0 + clip).mul_(block.advantages)
        of_ratio = worth.mul_(climbs).mul_(-1.0 / max(1.0, self._acted))
        away = log_ratio.expm1().sub_(log_ratio)
        if block.acted is not None:
            of_ratio.mul_(block.acted)
            away.mul_(block.acted)
        steered.addmv_(squares.sub_(1.0), of_ratio)
        of_mean = scaled.mul_(precision).mul_(of_ratio)
        # And back again.
        self._of_last.addmm_(of_mean, hidden)
        last.of_bias.add_(of_mean.sum(1))
        further = torch.mm(of_mean.t(), last.weight, out=block.further)
        pass_on(further, hidden, 0.0, further)
        self._of_head_rows.addmm_(block.second.t(), further)
        of_common = block.common
        for run in block.runs:
            torch.sum(run.further, 0, out=run.common)
        self._of_head_whole.addmm_(block.context.t(), of_common)
        self._head.of_bias.add_(of_common.sum(0))
        torch.mm(of_common, self._head_whole, out=block.of_context)
        _back_to_rows(block, self._acts)
        block.moved.addmm_(further, self._head_rows)
        _back_from_rows(block, self._acts)
        return away.sum()

    def _judge(self, block: _Block, weight: float) -> Tensor:
        """The critic's part; the sum of its squared errors."""
        value = self._value
        _encode(block, self._judges)
        missed = torch.addmv(value.bias, block.context, value.weight[0]).sub_(block.targets)
        if block.judged is not None:
            missed.mul_(block.judged)
        loss = missed.dot(missed)
        of_value = missed.mul_(weight).unsqueeze_(1)
        value.learn(block.context, of_value)
        torch.mm(of_value, value.weight, out=block.of_context)
        _back_to_rows(block, self._judges)
        _back_from_rows(block, self._judges)
        return loss


class _Layer(NamedTuple):
    """A linear layer, and room for its gradients."""

    layer: nn.Module
    weight: Tensor
    """[outputs, inputs]; follows the layer's own."""
    into: Tensor
    """The same as [inputs, outputs]."""
    bias: Tensor
    of_weight: Tensor
    """[inputs, outputs]."""
    of_bias: Tensor

    @classmethod
    def of(cls, layer: nn.Module) -> _Layer:
        weight = cast(Tensor, layer.weight).detach()
        bias = cast(Tensor, layer.bias).detach()
        of_weight = weight.new_zeros(weight.shape[1], weight.shape[0])
        return cls(layer, weight, weight.t(), bias, of_weight, torch.zeros_like(bias))

    def learn(self, inputs: Tensor, of_outputs: Tensor) -> None:
        """Add what one block has to say."""
        self.of_weight.addmm_(inputs.t(), of_outputs)
        self.of_bias.add_(of_outputs.sum(0))

    def give(self) -> None:
        cast(nn.Parameter, self.layer.weight).grad = self.of_weight.t().contiguous()
        cast(nn.Parameter, self.layer.bias).grad = self.of_bias.clone()


class _Encoder(NamedTuple):
    """A `SetEncoder` of rows."""

    first: _Layer
    second: _Layer
    whole: _Layer
    means: Tensor
    """[hidden, hidden], the part of the last one's weights that is for the rows' mean."""
    tops: Tensor
    """[hidden, hidden], that for their maximum."""

    @classmethod
    def of(cls, encoder: SetEncoder) -> _Encoder:
        rows = cast(nn.Sequential, encoder.rows)
        first, second, whole = map(_Layer.of, (rows[0], rows[2], encoder.whole[0]))
        width = len(second.bias)
        weight = whole.weight
        return cls(first, second, whole, weight[:, :width], weight[:, width : 2 * width])

    def layers(self) -> tuple[_Layer, _Layer, _Layer]:
        return self.first, self.second, self.whole


class _Run(NamedTuple):
    """Views into the room of a block, of sets with equally many rows."""

    second: Tensor
    """[rows of each set, sets, hidden], as the next two."""
    moved: Tensor
    further: Tensor
    mean: Tensor
    """[sets, hidden], as all that follow."""
    top: Tensor
    common: Tensor
    of_mean: Tensor
    of_top: Tensor


class _Block(NamedTuple):
    """Views into what is told, and room."""

    values: Tensor
    """[rows, row features]."""
    sample: Tensor
    """[actions, rows]."""
    log_prob: Tensor
    """[rows], as the next two."""
    advantages: Tensor
    acted: Tensor | None
    targets: Tensor
    """[sets], as the next one."""
    judged: Tensor | None
    share: Tensor
    """[sets, 1]."""
    first: Tensor
    """[rows, hidden], after the first layer of the rows."""
    second: Tensor
    """[rows, hidden], after the second one."""
    moved: Tensor
    """[rows, hidden], in the actor's head; then the gradient of `second`."""
    further: Tensor
    """[rows, hidden], the gradient in the actor's head; then that of `first`."""
    pooled: Tensor
    """[sets, 2 * hidden + whole features], mean and maximum of the rows, and what is whole."""
    mean: Tensor
    """[sets, hidden], its first part, in one piece: the sum of the rows."""
    top: Tensor
    """[sets, hidden], its second part, likewise."""
    parts: tuple[Tensor, Tensor]
    """Views of both in it."""
    context: Tensor
    """[sets, hidden]."""
    common: Tensor
    """[sets, hidden], the context's part in the actor's head; then its gradient."""
    of_context: Tensor
    """[sets, hidden]."""
    of_mean: Tensor
    """[sets, hidden]."""
    of_top: Tensor
    """[sets, hidden]."""
    runs: tuple[_Run, ...]


def _blocks(told: Told, layout: Layout, width: int) -> tuple[_Block, ...]:
    most_rows = max(one.rows.stop - one.rows.start for one in layout.blocks)
    most_sets = max(one.sets.stop - one.sets.start for one in layout.blocks)
    first, second, moved, further = torch.empty(4, most_rows, width).unbind()
    mean, top, context, common = torch.empty(4, most_sets, width).unbind()
    of_mean, of_top, of_context = torch.empty(3, most_sets, width).unbind()
    pooled = torch.cat((told.whole.new_empty(len(told.whole), 2 * width), told.whole), 1)
    sample = told.sample.t().contiguous()

    def laid_out(block: Block) -> _Block:
        rows, sets = block.rows, block.sets
        many, count = rows.stop - rows.start, sets.stop - sets.start

        def run(given: Run) -> _Run:
            here = slice(given.sets.start - sets.start, given.sets.stop - sets.start)
            return _Run(
                second=given.of_sets(second),
                moved=given.of_sets(moved),
                further=given.of_sets(further),
                mean=mean[here],
                top=top[here],
                common=common[here],
                of_mean=of_mean[here],
                of_top=of_top[here],
            )

        return _Block(
            values=told.values[rows],
            sample=sample[:, rows],
            log_prob=told.log_prob[rows],
            advantages=told.advantages[rows],
            acted=None if told.acted is None else told.acted[rows],
            targets=told.targets[sets],
            judged=None if told.judged is None else told.judged[sets],
            share=layout.share[sets],
            first=first[:many],
            second=second[:many],
            moved=moved[:many],
            further=further[:many],
            pooled=pooled[sets],
            mean=mean[:count],
            top=top[:count],
            parts=(pooled[sets, :width], pooled[sets, width : 2 * width]),
            context=context[:count],
            common=common[:count],
            of_context=of_context[:count],
            of_mean=of_mean[:count],
            of_top=of_top[:count],
            runs=tuple(map(run, block.runs)),
        )

    return tuple(map(laid_out, layout.blocks))


def _encode(block: _Block, encoder: _Encoder) -> None:
    """From rows to `second`, `pooled` and `context`."""
    first, second, whole = encoder.layers()
    torch.addmm(first.bias, block.values, first.into, out=block.first).relu_()
    torch.addmm(second.bias, block.first, second.into, out=block.second).relu_()
    for run in block.runs:
        torch.sum(run.second, 0, out=run.mean)
        torch.amax(run.second, 0, out=run.top)
    mean, top = block.parts
    torch.mul(block.mean, block.share, out=mean)
    top.copy_(block.top)
    torch.addmm(whole.bias, block.pooled, whole.into, out=block.context).relu_()


def _back_to_rows(block: _Block, encoder: _Encoder) -> None:
    """From `of_context` to what comes of it for `second`, which is written into `moved`."""
    of_context = block.of_context
    pass_on(of_context, block.context, 0.0, of_context)
    encoder.whole.learn(block.pooled, of_context)
    torch.mm(of_context, encoder.means, out=block.of_mean).mul_(block.share)
    torch.mm(of_context, encoder.tops, out=block.of_top)
    for run in block.runs:
        torch.sub(run.second, run.top, out=run.moved)
        pass_on(run.of_top.expand_as(run.moved), run.moved, NEAREST, run.moved)
        run.moved.add_(run.of_mean)


def _back_from_rows(block: _Block, encoder: _Encoder) -> None:
    """From `moved`, the gradient of `second`, through the layers of the rows."""
    moved, before = block.moved, block.further
    pass_on(moved, block.second, 0.0, moved)
    encoder.second.learn(block.first, moved)
    torch.mm(moved, encoder.second.weight, out=before)
    pass_on(before, block.first, 0.0, before)
    encoder.first.learn(block.values, before)
