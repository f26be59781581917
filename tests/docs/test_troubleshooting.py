"""What the page on symptoms quotes is what the code says."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.blocks import ROOT

TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
#: Cells of the first column; words alone are states and names, which other tests know.
QUOTED = [
    words
    for row in re.findall(r"^\| (.*?) \| ", TEXT, re.MULTILINE)
    for words in re.findall(r"`([^`]*)`", row)
    if " " in words
]


@cache
def sayings() -> str:
    """Every text in the source, f-strings with … for what is filled in."""
    found: list[str] = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [getattr(each, "value", "…") for each in node.values]
                found.append("".join(each if isinstance(each, str) else "…" for each in parts))
    return "\n".join(found)


@pytest.mark.parametrize("words", QUOTED)
def test_a_quoted_message_is_in_the_code(words: str) -> None:
    """Each piece of it between what differs."""
    for piece in words.split("…"):
        assert piece.strip() in sayings()


def test_there_is_something_to_compare() -> None:
    """The pattern still finds the cells."""
    assert len(QUOTED) > 40
