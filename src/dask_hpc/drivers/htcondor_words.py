"""How HTCondor reads words, and what its own mean, for :mod:`dask_hpc.drivers.htcondor`.

Tables, look-ups in them, and quoting.  Sources: condor_submit(1) and "Job ClassAd Attributes" in
the manual of 23.0, and what a real system printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import JobState

#: HoldReasonCode of jobs that a person holds, or that are held until their files are there: they
#: may go on.  All others have run, or could not, and nobody would release them.
WAITING_HOLDS = (1, 15, 16)

#: How held jobs have ended, by HoldReasonCode: those not here have failed.
_HOLDS = {
    34: (JobState.OUT_OF_MEMORY, "it needed more memory than it had asked for"),
    46: (JobState.TIMEOUT, "its walltime is over"),
    47: (JobState.TIMEOUT, "its walltime is over"),
}
#: Sites without memory control groups hold by a policy of their own (code 26).
_MEMORY = re.compile(r"\bmemory\b", re.IGNORECASE)

#: What passes: the schedd is down or busy.  Its commands then have "(null)" for its name.
TRANSIENT = re.compile(
    r"condor_schedd is not\s+running|Can't find address of (?:local )?schedd|: \(null\)"
    r"|(?:CEDAR|SECMAN|AUTHENTICATE):\d+|Failed to connect|communication error"
    r"|Failed to fetch ads|Failed to end classad message",
    re.IGNORECASE,
)
#: What condor_rm says of jobs that are gone, or that never were.
GONE = re.compile(
    r"Couldn't find/remove all jobs (?:in cluster \d+|matching constraint \(.*\))"
    r"|Job \d+\.\d+ not found|"
)

_HINTS = {
    r"accounting.group": "account= is the accounting group: ask the site for yours",
    r"I don't know about the": "a directive names what this HTCondor does not have",
    r"Parse error in expression": "a directive's value is no expression: text stands in quotes",
    r"invalid attribute name": "write a directive as `key = value`",
}
_ANALYSED = re.compile(
    r"Of (\d+) machines?,\s+(\d+) are rejected by your job's requirements", re.MULTILINE
)
_CONDITION = re.compile(r"^\[\d+\]\s+0\s+(\S.*)$", re.MULTILINE)
_BARE = re.compile(r"[\w@%+=:,./-]+")


def refusal(stderr: str) -> str:
    """A refusal's lines as one, without the list of all options."""
    said, usage, _ = stderr.partition("Usage: condor_submit")
    lines = [line.strip().removeprefix("ERROR: ") for line in said.splitlines()]
    lines += ["it does not know one of its options"] if usage else []
    return "; ".join(line for line in lines if line)


def hint(refused: str) -> str:
    """What to do after a refusal; empty if nobody knows."""
    return next((_HINTS[seen] for seen in _HINTS if re.search(seen, refused)), "")


def held(code: int | None, reason: str) -> tuple[JobState, str]:
    """What has become of a held job."""
    if code is None or code in WAITING_HOLDS:
        return JobState.HELD, reason
    if code in _HOLDS:
        state, words = _HOLDS[code]
        return state, f"{words} ({reason})"
    return JobState.OUT_OF_MEMORY if _MEMORY.search(reason) else JobState.FAILED, reason


def nowhere(analysis: str) -> str:
    """What no machine of the pool has, in an analysis; empty if some machine could run the job."""
    machines = _ANALYSED.search(analysis)
    if machines is None or machines[1] == "0" or machines[1] != machines[2]:
        return ""
    missing = " and ".join(_CONDITION.findall(analysis))
    return f"none of {machines[1]} machines has what it asks for" + (missing and f": {missing}")


def literal(text: str) -> str:
    """Write text as the value of a submit command, where ``$(NAME)`` would be replaced."""
    if "$$(" in text:
        raise ConfigurationError(f"HTCondor would replace the $$( ) in {text!r}")
    return text.replace("$", "$(DOLLAR)")


def quoted(arguments: Iterable[str]) -> str:
    """Write an argument list as condor_submit(1) reads it: in quotes, each doubled within."""
    parts = []
    for each in map(literal, arguments):
        word = each.replace('"', '""').replace("'", "''")
        parts.append(word if _BARE.fullmatch(word) else f"'{word}'")
    return f'"{" ".join(parts)}"'


def assignment(directive: str) -> str:
    """Write a line of a submit file as an argument of condor_submit.

    Raises
    ------
    ConfigurationError
        If it is none, or would take the place of the environment that tells a job its name.
    """
    name, equals, value = (part.strip() for part in directive.partition("="))
    if not name or not equals:
        raise ConfigurationError(
            f"not a submit command of HTCondor: {directive!r}", hint="write `key = value`"
        )
    if name.lower() in ("environment", "env"):
        raise ConfigurationError(
            f"the environment is not set in a directive: {directive!r}",
            hint="export variables in job_script_prologue",
        )
    return f"{f'My.{name[1:]}' if name[0] == '+' else name}={value}"
