"""The table of recordings says what is there."""

from __future__ import annotations

import re

import pytest

from tests.drivers.replay import TRANSCRIPTS, load

TABLE = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (TRANSCRIPTS / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and "---" not in line
]
SYSTEMS = [heading.replace("torque master", "torque master-34ff845") for heading in TABLE[0][1:]]
NAMED = [
    (system.replace(" ", "/"), row[0], name)
    for row in TABLE[1:]
    for system, cell in zip(SYSTEMS, row[1:], strict=True)
    for name in re.findall(r"`([^`]+)`", cell)
]


@pytest.mark.parametrize(("system", "situation", "name"), NAMED)
def test_the_recording_of_each_situation_is_there(system: str, situation: str, name: str) -> None:
    """And it holds commands; some print nothing, which is what there is to know."""
    outputs = load(f"{system}/{name}").outputs
    assert outputs, situation


def test_every_batch_system_with_recordings_is_in_the_table() -> None:
    """A new one is not forgotten."""
    there = {f"{path.parent.name}/{path.name}" for path in TRANSCRIPTS.glob("*/*") if path.is_dir()}
    assert there == {system.replace(" ", "/") for system in SYSTEMS}


def test_what_was_not_recorded_says_so() -> None:
    """A documented file names its source in its first line; no other file may be one."""
    for path in TRANSCRIPTS.glob("*/*/*.txt"):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        if path.name.startswith("documented-"):
            assert first.startswith("## "), path
