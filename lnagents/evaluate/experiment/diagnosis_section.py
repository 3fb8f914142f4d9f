"""What the diagnosis of an experiment's teams says: figures of it, and its part of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from lnagents.evaluate.experiment.diagnosis import FOLDER, NEWCOMER, PROFIT, SeatingResult
from lnagents.evaluate.figures import style
from lnagents.evaluate.page import chart, stacked, table
from lnagents.evaluate.results import Results
from lnagents.evaluate.statistics import Estimate, Floats, estimate, mean

SEED = 1
"""Of all intervals."""

_SQL = """
SELECT agent, agent_training, among, among_training, reward, network, returns FROM runs ORDER BY run
"""

_ROW_HEIGHT = 34
"""In pixels, of one team in a matrix."""


_RANGE = 50.0
"""Percent above and below that have the strongest colours, the same in all matrices."""


class _Name(NamedTuple):
    """Of a team, or of a newcomer by the team it has learned against."""

    learner: str
    training: int

    def __str__(self) -> str:
        return f"{self.learner} {self.training}"


@dataclass(frozen=True, slots=True, eq=False)
class _Seatings:
    """Returns [networks, families] by who sits among whom, and by which reward it is judged."""

    returns: Mapping[tuple[_Name, _Name, str], Floats]

    @classmethod
    def read(cls, folder: Path) -> _Seatings:
        """What the diagnosis in an experiment's folder has found; nothing if there was none."""
        results = Results(folder / FOLDER, SeatingResult)
        if not results.done():
            return cls({})
        found = results.query(_SQL)
        returns = {}
        for agent, own, among, other, reward, network, values in zip(*found.values(), strict=True):
            # Families follow each other, each with all its networks.
            shape = (-1, max(network) + 1)
            key = _Name(agent, own), _Name(among, other), reward
            returns[key] = np.reshape(values, shape).T
        return cls(returns)

    def teams(self, reward: str) -> list[_Name]:
        """Among whom somebody was judged by `reward`."""
        return sorted({among for _, among, by in self.returns if by == reward})


@dataclass(frozen=True, slots=True)
class BestResponse:
    """What a newcomer gains among the teams of one learner, all in its unit of money."""

    learner: str
    trainings: int
    team: Estimate
    """What the teams' own agents get."""
    newcomer: Estimate
    gain: Estimate
    """In the same seats and episodes."""


@dataclass(frozen=True, slots=True)
class Strangers:
    """What agents of one learner get among others, by the reward they were trained for."""

    learner: str
    own: Estimate
    """Among those they were trained with."""
    trainings: Estimate
    """Among those of the same learner's other trainings, less the former."""
    algorithms: Estimate
    """Among those of other algorithms with the same reward, less the first."""


def best_responses(seatings: _Seatings) -> list[BestResponse]:
    """Of each learner among whose teams newcomers have learned."""
    pairs: dict[str, list[tuple[Floats, Floats]]] = {}
    for among in seatings.teams(PROFIT):
        new = seatings.returns.get((_Name(NEWCOMER, among.training), among, PROFIT))
        own = seatings.returns.get((among, among, PROFIT))
        if new is not None and own is not None:
            pairs.setdefault(among.learner, []).append((new, own))
    found = []
    for learner, both in pairs.items():
        new, own = (np.array(each) for each in zip(*both, strict=True))
        parts = (estimate(mean, one, seed=SEED) for one in (own, new, new - own))
        found.append(BestResponse(learner, len(both), *parts))
    return found


def strangers(seatings: _Seatings) -> list[Strangers]:
    """Of each learner whose agents sat among those of others; intervals are over networks."""
    found = []
    for reward in sorted({by for _, _, by in seatings.returns if by != PROFIT}):
        teams = seatings.teams(reward)
        for learner in dict.fromkeys(team.learner for team in teams):
            own: list[Floats] = []
            same: list[Floats] = []
            others: list[Floats] = []
            for agent in (team for team in teams if team.learner == learner):
                for among in teams:
                    returns = seatings.returns.get((agent, among, reward))
                    if returns is not None:
                        alike = own if agent == among else same
                        (alike if among.learner == learner else others).append(returns)
            if own:
                found.append(_strangers(learner, own, same, others))
    return found


def _strangers(
    learner: str, own: Sequence[Floats], same: Sequence[Floats], others: Sequence[Floats]
) -> Strangers:
    usual = np.mean(own, axis=0)

    def less(returns: Sequence[Floats]) -> Estimate:
        if not returns:
            return Estimate(np.nan, np.nan, np.nan)
        return estimate(mean, np.mean(returns, axis=0) - usual, seed=SEED)

    return Strangers(learner, estimate(mean, usual, seed=SEED), less(same), less(others))


def to_json(folder: Path) -> dict[str, Any]:
    """What the diagnosis in an experiment's folder says, as plain data.

    Raises:
        ExperimentError: its results are damaged.
    """
    seatings = _Seatings.read(folder)
    return {
        "best_response": [_plain(asdict(one)) for one in best_responses(seatings)],
        "strangers": [_plain(asdict(one)) for one in strangers(seatings)],
    }


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is not known is None."""
    return {
        key: [None if np.isnan(part) else part for part in one]
        if isinstance(one, Estimate)
        else one
        for key, one in found.items()
    }


def diagnosis_section(folder: Path) -> list[str]:
    """HTML about the diagnosis in an experiment's folder; nothing if there was none.

    Raises:
        ExperimentError: its results are damaged.
    """
    seatings = _Seatings.read(folder)
    return [*_gained(best_responses(seatings)), *_crossed(seatings)]


def _gained(found: Sequence[BestResponse]) -> list[str]:
    if not found:
        return []
    rows = [
        [
            escape(one.learner),
            str(one.trainings),
            stacked(one.team),
            stacked(one.newcomer),
            stacked(one.gain),
            f"{one.gain.value / one.team.value:+.0%}" if one.team.value > 0.0 else "–",
            _verdict(one.gain),
        ]
        for one in found
    ]
    head = ("", "teams", "own agent", "newcomer", "gain", "of the own agent's", "")
    return [
        "<h2>Could anyone gain by learning against them?</h2>",
        '<p class="note">A team has all seats but one, and does not change; on that one a newcomer'
        " learns for money alone, on training networks. The table tells what it then earns on"
        " held-out networks, and what the team’s own agent earns there in the same seat with the"
        " same payments: 1 a round would be an agent’s part of all fees if everybody paid what"
        " half of the payers accept. Intervals are over networks and trainings. A gain is a lower"
        " bound of what is to be had: more training may find more, and none found does not show"
        " that there is none.</p>",
        table(head, rows),
    ]


def _verdict(gain: Estimate) -> str:
    if gain.low > 0.0:
        return "it pays to leave their ways"
    return "the newcomer did worse" if gain.high < 0.0 else "no gain shown"


def _crossed(seatings: _Seatings) -> list[str]:
    found = strangers(seatings)
    if not found:
        return []
    rows = [
        [
            escape(one.learner),
            stacked(one.own),
            _change(one.trainings, one.own),
            _change(one.algorithms, one.own),
        ]
        for one in found
    ]
    head = ("", "among their own", "other trainings, less that", "other algorithms, less that")
    body = [
        "<h2>Among strangers</h2>",
        '<p class="note">One agent of a team among agents of another team, which was trained apart'
        " for the same reward; judged by that reward, on held-out networks. If it gets less than"
        " among its own, the team has conventions that others do not share. Intervals are over"
        " networks only.</p>",
        table(head, rows),
    ]
    for reward in dict.fromkeys(by for _, _, by in seatings.returns if by != PROFIT):
        body.append(f"<h3>Reward “{escape(reward)}”</h3>")
        body.append(chart(_matrix(seatings, reward), f"cross-play-{reward}"))
    return body


def _change(found: Estimate, own: Estimate) -> str:
    if np.isnan(found.value):
        return "–"
    share = f" ({found.value / own.value:+.1%})" if own.value > 0.0 else ""
    return stacked(found).replace("<br>", f"{share}<br>", 1)


def _matrix(seatings: _Seatings, reward: str) -> go.Figure:
    """What agents of the row get among those of the column, in percent of the diagonal's mean."""
    teams = seatings.teams(reward)
    nothing = np.full((1, 1), np.nan)
    values = np.array(
        [[seatings.returns.get((one, other, reward), nothing).mean() for other in teams]
         for one in teams]
    )  # fmt: skip
    shares = 100.0 * values / np.nanmean(np.diag(values))
    names = [str(team) for team in teams]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=names,
            y=names,
            text=[[_whole_number(value) for value in row] for row in shares],
            texttemplate="%{text}",
            colorscale="RdBu",
            zmin=100.0 - _RANGE,
            zmax=100.0 + _RANGE,
            showscale=False,
            hovertemplate="%{y} among %{x}: %{text} % of the diagonal’s mean<extra></extra>",
        )
    )
    style(figure, 200 + _ROW_HEIGHT * len(teams))
    figure.update_yaxes(autorange="reversed", automargin=True, title="agent")
    figure.update_xaxes(automargin=True, title="among agents of")
    return figure


def _whole_number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0f}"
