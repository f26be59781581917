"""What LSF and OpenLava say, in patterns and plain words: refusals, waits, ends.

Data of :mod:`dask_hpc.drivers.lsf`; no logic may live here.  Sources: the messages of the batch
commands and the termination reasons in IBM's documentation of Spectrum LSF 10.1, and what OpenLava
4.0 printed (tests/drivers/transcripts/openlava).
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from dask_hpc.model.job import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Users' variables that change what commands do or print: BSUB_QUIET hides the id, BSUB_CHK_RESREQ
#: submits nothing.  The default queue and project (LSB_DEFAULT*) stay: they are the user's wish.
UNSET = ("BSUB_*", "BJOBS_*", "LSB_BSUB_*", "LSB_BJOBS_*", "LSB_SHORT_HOSTLIST")

#: What a job of several nodes is to see: a host that is lost ends its own tasks, and not the job
#: (lsb.applications, DJOB_COMMFAIL_ACTION).
TOLERANT = (("LSB_DJOB_COMMFAIL_ACTION", "KILL_TASKS"),)

#: The daemons are down or busy.  Most commands try for ever then: our runner stops them.
TRANSIENT = re.compile(
    r"(?:LSF|OpenLava) is (?:down|processing your request)|Cannot connect to LSF"
    r"|daemon(?: \(\w+\))? not responding|still trying|concurrent (?:job )?query limit exceeded"
    r"|(?:batch|LIM|mbatchd) (?:daemon|configuration)? ?is (?:down|busy|not ready)"
    r"|Connection (?:refused|reset|timed out)|[Cc]ommunication time ?out|[Tt]ry (?:again )?later"
    r"|Pending job threshold reached",
)

#: What a query says that has nothing to list; it exits 255 all the same.
NOTHING = re.compile(r"No (?:\w+ )?job found|No matching job found|Job <[^>]*> is not found")

#: What cancelling says of jobs that it ends, or that are gone.
CANCELLED = re.compile(
    r"is being (?:terminated|signaled|removed)|has already finished|Operation is in progress"
    r"|No matching job found|is not found|No unfinished job found"
)

#: Pattern in a refusal, and what to do next.
HINTS: Mapping[str, str] = MappingProxyType({
    r"No such queue|cannot use the queue": "`bqueues` lists the queues; name one with queue=",
    r"Too many processors|PROCLIMIT|TASKLIMIT": "`bqueues -l QUEUE` shows how many a job may have",
    r"RUNLIMIT|Bad host specification": (
        "`bqueues -l QUEUE` shows the longest walltime; OpenLava calls one over it a bad host"
    ),
    r"array index too large|Bad job name": "`bparams -l` shows how large an array may be",
    r"MEML\w*": "`bqueues -l QUEUE` shows the most memory; lsf_units= tells the site's unit",
    r"resource requirement": "the site may know no units in -R: use lsf_units=",
    r"roject": "name a project of yours with account=",
})  # fmt: skip

#: Why jobs wait: pattern, plain words.  Others are repeated as they are.
REASONS: Mapping[str, str] = MappingProxyType({
    r"[Jj]ob slot limit reached": "waiting for free slots",
    r"suspended by the user while pending": "held by its owner: bresume",
    r"suspended by (?:LSF|OpenLava) admin": "held by an administrator",
    r"specified start time": "its start time has not come",
    r"never satisfied": "the job it depends on failed",
    r"dependency condition": "waiting for another job",
    r"reserving resource|resource requirements not satisfied|[Ll]oad information": (
        "no host has now what it asks for"
    ),
    r"queue.*inactiv|[Ii]nactiv.*queue": "the queue is closed for now",
})  # fmt: skip

#: Waits that never end.
NEVER = re.compile(r"never satisfied")

_PREEMPTED = (JobState.PREEMPTED, "the site took its place away")
_CANCELLED = (JobState.CANCELLED, "")
_LIMIT = (JobState.TIMEOUT, "its walltime is over")
_MEMORY = (JobState.OUT_OF_MEMORY, "it needed more memory than it has")
_NODE = (JobState.NODE_FAIL, "its node failed")
_FAILED = (JobState.FAILED, "")
_AGAIN = (JobState.PENDING, "it is queued again")

#: Termination reasons: what became of the job, in which words.
TERMS: Mapping[str, tuple[JobState, str]] = MappingProxyType({
    "TERM_RUNLIMIT": _LIMIT,
    "TERM_DEADLINE": _LIMIT,
    "TERM_CPULIMIT": (JobState.TIMEOUT, "its CPU time is over"),
    "TERM_MEMLIMIT": _MEMORY,
    "TERM_SWAP": _MEMORY,
    "TERM_OWNER": _CANCELLED,
    "TERM_FORCE_OWNER": _CANCELLED,
    "TERM_ADMIN": _CANCELLED,
    "TERM_FORCE_ADMIN": _CANCELLED,
    "TERM_BUCKET_KILL": _CANCELLED,
    "TERM_REMOVE_HUNG_JOB": _CANCELLED,
    "TERM_PREEMPT": _PREEMPTED,
    "TERM_LOAD": _PREEMPTED,
    "TERM_WINDOW": _PREEMPTED,  # the queue's hours are over: not the job's fault
    "TERM_RC": _PREEMPTED,  # a rented host was reclaimed
    "TERM_MC_RECALL": _PREEMPTED,
    "TERM_REQUEUE_OWNER": _AGAIN,  # comes back under the same identity
    "TERM_REQUEUE_ADMIN": _AGAIN,
    "TERM_REQUEUE_RC": _AGAIN,
    "TERM_ZOMBIE": _NODE,  # it ended while LSF was not there
    "TERM_RMS": _NODE,
    "TERM_SLURM": _NODE,
    "TERM_CSM_ALLOC": _NODE,
    "TERM_KUBE": _NODE,
    "TERM_CWD_NOTEXIST": (JobState.FAILED, "its working directory is not on the node"),
    "TERM_PRE_EXEC_FAIL": (JobState.FAILED, "the site's preparation of the node failed"),
    "TERM_PROCESSLIMIT": (JobState.FAILED, "it has too many processes"),
    "TERM_THREADLIMIT": (JobState.FAILED, "it has too many threads"),
    "TERM_EXTERNAL_SIGNAL": (JobState.FAILED, "killed by a signal"),
})  # fmt: skip
