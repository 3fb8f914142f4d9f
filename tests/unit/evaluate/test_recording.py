"""The format of recordings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lnagents.evaluate.fidelity import find_recordings, write_recording
from lnagents.evaluate.recording import (
    CaseSet,
    UpdateRecord,
    dump_recording,
    load_recording,
    parse_recording,
)
from lnagents.model.errors import RecordingError
from tests.unit.evaluate.recordings import B_TO_C, POLICY, REFUSED, SETTLED, make_recording


def test_what_is_written_is_read_back() -> None:
    update = UpdateRecord(at=1.5, edge=B_TO_C, policy=POLICY._replace(fee_rate_ppm=7))
    recording = make_recording((SETTLED, update, REFUSED), case_set=CaseSet.STALE)
    text = dump_recording(recording)
    assert parse_recording(text, "here") == recording
    # One line per step, so that files can be read and compared.
    assert sum('"kind":"payment"' in line for line in text.splitlines()) == 2
    assert recording.payments == (SETTLED, REFUSED)


def test_files_and_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "deep" / "a.json", tmp_path / "deep" / "b.json"
    one, other = make_recording(), make_recording((SETTLED,))
    write_recording(one, first)
    write_recording(other, second)
    assert load_recording(first) == one
    assert find_recordings([second, tmp_path / "deep"]) == [other, one, other]
    assert sorted(path.name for path in first.parent.iterdir()) == ["a.json", "b.json"]
    with pytest.raises(RecordingError, match=r"has no recordings"):
        find_recordings([tmp_path])
    with pytest.raises(RecordingError, match=r"cannot be read"):
        load_recording(tmp_path / "missing.json")
    with pytest.raises(RecordingError, match=r"cannot be written"):
        write_recording(one, first / "below a file.json")


def broken(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(dump_recording(make_recording()))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda doc: doc.update(version=2), r"version: "),
        (lambda doc: doc.update(extra=1), r"extra: unknown key"),
        (lambda doc: doc.pop("end"), r"end: missing"),
        (lambda doc: doc["steps"][0].update(kind="other"), r"steps\[0\]"),
        (lambda doc: doc["steps"][1].update(source="z"), r"steps\[1\]: names an unknown node"),
        (
            lambda doc: doc["steps"][0]["attempts"][0]["hops"][0].__setitem__(0, 4),
            r"steps\[0\]: names an unknown edge",
        ),
        (
            lambda doc: doc["channels"][0].update(balance_msat=[0, 1]),
            r"channels\[0\]\.balance_msat: the two balances do not sum",
        ),
        (lambda doc: doc["channels"][1].update(target="z"), r"channels\[1\]: names an unknown"),
        (lambda doc: doc["end"]["balance_msat"].pop(), r"end\.balance_msat: has 1 entries"),
        (lambda doc: doc["topology"].update(name="?"), r"topology.*is not a name"),
    ],
)
def test_mistakes_are_named(change: Callable[[dict[str, Any]], object], problem: str) -> None:
    with pytest.raises(RecordingError, match=rf"^here: .*{problem}"):
        parse_recording(broken(change), "here")


def test_not_json() -> None:
    with pytest.raises(RecordingError, match=r"^here: line 2: not valid JSON"):
        parse_recording("{\n,", "here")


def test_edges_and_paths_have_names() -> None:
    recording = make_recording()
    assert [recording.edge_name(edge) for edge in range(4)] == ["a→b", "b→a", "b→c", "c→b"]
    assert recording.path(SETTLED.attempts[0]) == "a→b→c"
    assert SETTLED.attempts[0].outcome() == "settled"
    assert REFUSED.attempts[0].outcome() == "TEMPORARY_CHANNEL_FAILURE at node 1"
