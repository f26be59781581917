"""Grid Engine's words: hints for refusals, the codes of its accounting, passing failures.

Sources: sge_status(5), sge_submit(1) of Son of Grid Engine 8.1.9, and what its commands printed
(tests/drivers/transcripts/sge).  Data only; :mod:`dask_hpc.drivers.sge_reading` reads with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dask_hpc.model.job import JobState

#: Variables that change what the commands print or do, whatever their options say.
UNSET = ("SGE_DEBUG_LEVEL", "MORE_INFO")
#: What a head inside a parallel job would pass on where a site's defaults say -V: a job of one slot
#: has no such file of its own and would take the head's nodes for its own.
OUTER_JOB = ("PE", "PE_HOSTFILE")

#: What no quoting keeps the batch system from reading in a log's path (seen: a comma separates
#: hosts, a backslash and quotes are kept); other dollar signs, blanks, colons and % are literal.
UNWRITABLE = re.compile(r",|\$(?:HOME|USER|JOB_ID|JOB_NAME|HOSTNAME|TASK_ID)")

#: Keywords of Grid Engine alone.
OPTIONS = {
    "project": "who is charged (-P); the same as account",
    "resource_spec": "resources to ask for (-l), such as 'h_vmem=4G,exclusive'",
    "parallel_environment": "gives a job more than one slot (-pe); smp unless named",
    "memory_resource": "the site's resource that memory is asked by, per slot: h_vmem, mem_free or"
    " virtual_free; without it none is asked",
    "gpu_resource": "the site's resource that GPUs are asked by; gpu unless named",
}

#: sge_status(5): a state is several letters; the first letter below that is in it counts.
STATES: Mapping[str, JobState] = {
    "d": JobState.ENDING,  # deleted: on a host that is lost it stays so until the host is back
    "E": JobState.HELD,  # it could not be started and waits until somebody clears the error
    "r": JobState.RUNNING,  # "hr" too: a hold on a running job counts when it is requeued
    "t": JobState.RUNNING,  # on its way to its host
    "s": JobState.RUNNING,  # suspended by its owner; it goes on where it was
    "S": JobState.RUNNING,  # suspended with its queue, for a better one
    "T": JobState.RUNNING,  # suspended as its host is overloaded
    "h": JobState.HELD,  # by its owner, an administrator, or a job it depends on
    "q": JobState.PENDING,  # "Rq" too: requeued
    "w": JobState.PENDING,
}

#: What hosts are told that may neither submit nor cancel, or not even query.
NOT_HERE = re.compile(r"is not a submit host|is no submit host|is neither submit nor admin host")

HINTS = {
    r"unknown queue": "`qconf -sql` lists the queues; name one with queue=",
    r"parallel environment": "`qconf -spl` lists them; name one with parallel_environment=",
    r"unknown resource": "`qconf -sc` lists the resources: see memory_resource= and resource_spec=",
    r"project": "`qconf -sprjl` lists the projects; name yours with account=",
    r"answer list from qmaster": "a name or value with blanks in it may be the cause",
    r"lower than minimum user id": "submit as an ordinary user, not as root",
    NOT_HERE.pattern: (
        "jobs are submitted elsewhere; for a head in a job whose node may not:"
        ' head_options={"submits": False} (docs/outliving.md)'
    ),
    r"jobs are allowed per user|job limit": "you may have fewer jobs at once: ask for fewer",
}

TRANSIENT = re.compile(
    r"commlib error|unable to (?:contact|connect to|send message to) qmaster"
    r"|got (?:send|select|read|receive) error|got no (?:valid )?(?:response|answer)"
    r"|unable to receive message from qmaster|failed receiving gdi request"
    r"|timeout .*(?:expired|for sge_qmaster)|can't reach qmaster|qmaster is not running",
    re.IGNORECASE,
)

#: Said by qdel of jobs that are no longer there, or are on their way out: nothing is left to do.
GONE = re.compile(
    r"(?:job|task) \"?[\d.]+\"? does not exist|The job \S+ of user\(s\) \S+ does not exist"
    r"|is already in deletion|job \"\d+\" task \"[\d:-]+\" does not exist",
)
#: What a cancellation that was not accepted says.
REFUSED = re.compile(r"privileges|denied:|ERROR|error:|[Uu]nable to|invalid")

HELD = "held by you, an administrator or a job it waits for: `qrls {0}` releases yours"
REQUEUED = "requeued: waiting to run again"
IN_ERROR = (
    "it could not be started (log directory, working directory, or its script ended with 100): "
    "`qstat -j {0}` tells the error; mend it and cancel the job, or have it cleared (qmod -cj {0})"
)

#: Failure codes of accounting after which the job goes on: their record is no end.
NO_END = frozenset({24, 25})  # migrating; rescheduling (seen: a script that exits 99, for ever)
SIGNALLED = frozenset({17, 100})  # 17 in older versions
LIMIT = 37  # "qmaster enforced h_rt, h_cpu, or h_vmem limit"
NODE_LOST = 19  # "before writing exit_status": its host went away, or the execution daemon with it

OVER_TIME = "its walltime is over (h_rt)"
OVER_SOFT_TIME = "its soft walltime is over (s_rt: SIGUSR1)"
OVER_MEMORY = "it was killed for its memory, not its walltime (h_vmem, also where a site sets it)"
NODE_WENT = "its node failed, or the execution daemon there"
KILLED = "killed by {}: by qdel, by the node for want of memory, or by itself"

#: Of the lines that say why no queue suits: what is true of any job, and tells nothing.
NOISE = re.compile(
    r"has no permission for cluster queue|not contained in its hard queue list"
    r"|dropped because it is (?:full|temporarily not available)"
)
#: Asked for a load value (mem_free): the dry run on an empty cluster knows none and says no.
LOAD_VALUE = re.compile(r"because job requests unknown resource \(\w+\)")
#: Where a line was true: the same for many hosts.
PLACE = re.compile(r' (?:at host|in queue) "[^"]*"')
WAITING = "waiting for free slots"
UNSURE = "waiting; no host can be named ahead, as it asks for a load value: {}"
