"""The fenced blocks of the README and the pages, and what is written above them for the tests.

A block of ``python``, ``console``, ``yaml`` or ``bash`` is an example.  Above it may stand, in a
comment that no reader sees:

``<!-- test: with CODE -->``
    Python or shell lines that come first, for what the page takes as given.
``<!-- test: site tests/site/test_x.py::test_y -->``
    It needs what only a site has, and that test does the same there.  The words
    ``tests/integration`` stand for a site that a test builds on one machine.
``<!-- test: no REASON -->``
    It cannot be run, and why.
``<!-- test: directives BATCH -->``
    It is the head of a job script, of the job in `tests.docs.test_systems`.

Nothing is run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Languages of examples; what has none, or is ``text``, is what something prints.
EXAMPLES = ("python", "console", "yaml", "bash")
PRINTED = ("", "text")

_FENCE = re.compile(r"^(`{3,})(.*)$")
_COMMENT = re.compile(r"<!-- test: (with|site|no|directives)\b(.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Parameters
    ----------
    page
        Its path from the root of the repository.
    line
        Of its first line of code.
    language
        As written behind the fence.
    code
        Without the fences.
    marks
        What the comments above it say: kind and text.
    """

    page: str
    line: int
    language: str
    code: str
    marks: tuple[tuple[str, str], ...] = ()

    @property
    def runs(self) -> bool:
        """Whether nothing says that it does not."""
        return not any(kind in ("site", "no", "directives") for kind, _ in self.marks)

    @property
    def before(self) -> str:
        """What comes first."""
        return "".join(f"{text}\n" for kind, text in self.marks if kind == "with")

    def mark(self, kind: str) -> list[str]:
        """The texts of one kind of comment."""
        return [text for each, text in self.marks if each == kind]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """The README and every page of the documentation."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ["README.md", *(path for path in found if "/_" not in path)]


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in order."""
    return list(_blocks(page, (ROOT / page).read_text(encoding="utf-8")))


def examples(page: str) -> list[Block]:
    """Those blocks of a page that are examples."""
    return [block for block in blocks(page) if block.language in EXAMPLES]


def _blocks(page: str, text: str) -> Iterator[Block]:
    lines = text.splitlines()
    above: list[str] = []
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            above.append(lines[at])
            at += 1
            continue
        end = next(n for n in range(at + 1, len(lines)) if lines[n].rstrip() == fence[1])
        code = "\n".join(lines[at + 1 : end]) + "\n"
        yield Block(page, at + 2, fence[2].strip(), code, tuple(_marks("\n".join(above))))
        above, at = [], end + 1


def _marks(above: str) -> Iterator[tuple[str, str]]:
    """What the comments say that stand directly above a fence."""
    found: list[tuple[str, str]] = []
    rest = above.rstrip()
    while rest.endswith("-->"):
        start = rest.rfind("<!--")
        comment = _COMMENT.fullmatch(rest[start:])
        if comment is None:
            break
        text = comment[2].strip("\n")
        found.append((comment[1], text if "\n" in text else text.strip()))
        rest = rest[:start].rstrip()
    yield from reversed(found)
