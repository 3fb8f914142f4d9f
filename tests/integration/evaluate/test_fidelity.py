"""Small cases of every kind on real nodes and in the twin, which have to agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lnagents.evaluate.fidelity import (
    bench_fidelity,
    compare_recordings,
    find_recordings,
    record_or_load,
)
from lnagents.evaluate.fidelity_cases import Case, Change, Pay, draw_case
from lnagents.evaluate.fidelity_explain import explain_case
from lnagents.evaluate.recording import CaseSet, Recording, UpdateRecord
from tests.integration.shell import Shell

PAYMENTS = 20


def shortened(case_set: CaseSet, index: int) -> Case:
    """A drawn case with its first payments, and the changes of policies before the last of them."""
    case = draw_case(case_set, 1, index)
    places = [place for place, act in enumerate(case.acts) if isinstance(act, Pay)]
    return replace(case, acts=case.acts[: places[PAYMENTS - 1] + 1])


@pytest.mark.parametrize(
    ("case_set", "index"),
    [
        (CaseSet.SINGLE, 2),
        (CaseSet.HELD, 1),
        (CaseSet.CONCURRENT, 1),
        # Odd ones are those in which gossip's limits keep changes from being known.
        (CaseSet.STALE, 1),
    ],
    ids=lambda value: str(getattr(value, "value", value)),
)
async def test_twin_and_lnd_agree(case_set: CaseSet, index: int) -> None:
    case = shortened(case_set, index)
    recording = await record_or_load(case, None)
    assert len(recording.payments) == PAYMENTS
    assert any(payment.settled for payment in recording.payments)
    compared = compare_recordings([recording]).cases[0]
    story = explain_case(compared)
    wrong = sum(not payment.sequence or not payment.outcome for payment in compared.compared)
    # Which of two payments at once comes first is not LND's choice, but the machine's.
    assert wrong <= (2 if case_set is CaseSet.CONCURRENT else 0), story
    assert not compared.same_sequences or not compared.channels, story
    check_kind(case, recording)


def check_kind(case: Case, recording: Recording) -> None:
    """The case had what its set is for."""
    held = [payment.hold for payment in recording.payments if payment.hold]
    assert bool(held) == (case.case_set is CaseSet.HELD)
    updates = [step for step in recording.steps if isinstance(step, UpdateRecord)]
    assert len(updates) == sum(isinstance(act, Change) for act in case.acts)
    if case.case_set is CaseSet.CONCURRENT:
        ends = [payment.at + payment.seconds for payment in recording.payments]
        starts = [payment.at for payment in recording.payments]
        assert any(later < end for end, later in zip(ends, starts[1:], strict=False))


async def test_the_bench_goes_on_where_it_was(tmp_path: Path) -> None:
    told: list[str] = []
    # Of six nodes and seven channels.
    arguments = {"cases": [1], "seed": 1, "directory": tmp_path, "progress": told.append}
    first = await bench_fidelity([CaseSet.SINGLE], **arguments)  # type: ignore[arg-type]
    assert any("starting the network" in text for text in told)
    assert find_recordings([tmp_path]) == [first.cases[0].recording]
    told.clear()
    second = await bench_fidelity([CaseSet.SINGLE], **arguments)  # type: ignore[arg-type]
    assert not any("starting the network" in text for text in told)
    assert second.to_json() == first.to_json()
    document = first.to_json()
    assert document["outcome_agreement"] == 1.0
    assert document["balance_mismatches"] == 0


def test_a_workload_is_recorded_and_replayed(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    code, out, err = shell.run("twin", "record", str(file), "--payments", "15", "--seed", "3")
    assert code == 0, err
    assert "of 15 payments settled" in out
    (recording,) = find_recordings([file])
    assert recording.topology.name == "default"
    compared = compare_recordings([recording]).cases[0]
    agreeing = sum(payment.outcome for payment in compared.compared)
    assert agreeing >= len(compared.compared) - 1, explain_case(compared)
