"""What qstat of PBS and TORQUE prints: the short listing, the full one, and ids by name.

Reading alone: what a state or an exit code means is the drivers' business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dask_hpc.drivers.base import Output
from dask_hpc.drivers.pbs_words import GONE, TRANSIENT
from dask_hpc.errors import BatchSystemUnavailable

_ID = r"(?P<number>\d+)(?:\[(?P<index>\d*)\])?"  # "12", of an array "12[]", of its job "12[3]"
_SUBMITTED = re.compile(r"^[ \t]*(\d+(?:\[\])?)\.[A-Za-z][\w.-]*[ \t]*\r?$", re.MULTILINE)
_ARRAY = re.compile(r"\d+(?:\[\])?")
_ROW = re.compile(rf"{_ID}(?:[.*]\S*)?\s+\S+\s+\S+\s+\S+\s+(?P<state>[A-Z])\s+\S+")
_CUT = re.compile(r"\d+\[\d*\*")
_FOUND = re.compile(rf"name=(?P<name>\S+) id={_ID}\.\S+")
_GONE = re.compile(r"(?<![\w.])(\d+(?:\[\])?)(?=[.\s]|$)")
_RECORD = re.compile(rf"{_ID}(?:\.\S*)?\s*")
_FIELD = re.compile(r" {4}([\w.]+) = (.*)")

#: A submission whose id was lost has nothing but its name, which only qselect takes: qstat would
#: have to list all jobs of all users.  A constant script: ids, "--" and names are its arguments.
FIND = """\
set -f; ids=
while [ "$1" != -- ]; do ids="$ids $1"; shift; done; shift
for name do
  said=$(qselect -N "$name") || exit
  for id in $(printf '%s\\n' "$said" | grep -E '^[0-9]+(\\[[0-9]*\\])?[.][A-Za-z][^ ]*$'); do
    echo "name=$name id=$id"
    case $id in *\\[*) ids="$ids ${id%%\\[*}[]" ;; *) ids="$ids ${id%%.*}" ;; esac
  done
done
[ -z "$ids" ] || exec qstat -t $ids
"""


class Id(NamedTuple):
    """Of a job alone (no index), of an array (an empty one) or of a job of an array."""

    number: str
    element: str | None

    @property
    def array(self) -> str:
        """Id of the array, or of the job alone."""
        return self.number if self.element is None else f"{self.number}[]"


def submitted(text: str) -> set[str]:
    """Ids in what qsub printed: lines that are an id and its server, never a mere number."""
    return set(_SUBMITTED.findall(text))


def rows(text: str) -> Iterator[tuple[Id, str]]:
    """Ids and state letters in what ``qstat`` printed; other lines are chatter.

    Raises
    ------
    BatchSystemUnavailable
        If an id is cut short: its job would be taken for gone.
    """
    for line in map(str.strip, text.splitlines()):
        if _CUT.match(line):
            raise BatchSystemUnavailable(f"qstat cut the id of a job short: {line}")
        if match := _ROW.fullmatch(line):
            yield Id(match["number"], match["index"]), match["state"]


def found(text: str) -> dict[str, str]:
    """Array id of each name in what `FIND` printed; jobs of TORQUE's arrays are NAME-INDEX."""
    names = {}
    for match in filter(None, map(_FOUND.fullmatch, text.splitlines())):
        name, index = match["name"], match["index"]
        names[name.removesuffix(f"-{index}") if index else name] = Id(match["number"], index).array
    return names


def all_gone(text: str) -> bool:
    """Whether a command that failed complains of nothing but jobs that are gone."""
    said = [line for line in text.splitlines() if re.match(r"q(?:stat|del): ", line)]
    return bool(said) and all(map(GONE.search, said)) and not TRANSIENT.search(text)


def unmentioned(output: Output, listed: set[str]) -> list[str]:
    """Arrays that qstat was asked for and has neither listed nor called gone."""
    lines = output.text.splitlines()
    gone = {id_ for line in lines if GONE.search(line) for id_ in _GONE.findall(line)}
    return sorted(filter(_ARRAY.fullmatch, set(output.command.argv) - listed - gone))


def records(text: str) -> Iterator[tuple[Id, dict[str, str]]]:
    """Jobs in what ``qstat -f`` printed, with their fields.

    Long values go on in lines that start with a tab; an empty line ends a job.  What is cut off in
    the middle of one is left out, or ``271`` could be read as ``2``.
    """
    chunks = re.split(r"^Job Id: ", text.replace("\n\t", ""), flags=re.MULTILINE)[1:]
    if chunks and "\n\n" not in chunks[-1]:
        del chunks[-1]
    for chunk in chunks:
        first, *lines = chunk.split("\n")
        job = _RECORD.fullmatch(first)
        if job is not None:
            fields = (match.groups() for match in map(_FIELD.fullmatch, lines) if match)
            yield (
                Id(job["number"], job["index"]),
                {str(name): str(value).strip() for name, value in fields},
            )
