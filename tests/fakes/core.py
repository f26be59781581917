"""One batch system without words: jobs, arrays, states, time, faults.

No text of any real system may live here (that is a dialect's business) and nothing of dask_hpc: a
fake that shares code with what it tests would share its mistakes.  It imports next to nothing,
since every faked command is a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

PENDING, HELD, RUNNING, ENDING = "pending", "held", "running", "ending"
COMPLETED, FAILED, TIMEOUT, MEMORY = "completed", "failed", "timeout", "memory"
CANCELLED, NODE, PREEMPTED = "cancelled", "node", "preempted"
LIVE = frozenset({PENDING, HELD, RUNNING, ENDING})
ENDS = (COMPLETED, FAILED, TIMEOUT, MEMORY, CANCELLED, NODE, PREEMPTED)

#: Why a job waits; a dialect has its system's word for each.
BUSY, IMPOSSIBLE, REQUEUED = "busy", "impossible", "requeued"

#: What each simulated node has; and the queues: name to the longest walltime in seconds.
NODE_CORES, NODE_MEMORY, NODE_GPUS, NODES = 16, 16 * 1024**3, 2, 4
QUEUES: dict[str, int | None] = {"main": None, "short": 3600}
ACCOUNTS = ("lab",)

GIB = 1024**3


class Refused(Exception):
    """A submission is refused: why, in a neutral word, and the value that is wrong."""

    def __init__(self, why: str, value: object = "") -> None:
        super().__init__(why, value)
        self.why, self.value = why, value


class Request:
    """What an array asks for, in neutral units, as the system understood it."""

    def __init__(self) -> None:
        self.cores = 1
        self.nodes = 1
        self.gpus = 0
        self.memory: int | None = None  # bytes per node
        self.walltime: int | None = None  # seconds
        self.exclude: frozenset[str] = frozenset()  # names of nodes
        self.queue = ""
        self.account = ""

    def fits(self) -> str:
        """What of it no node will ever have; empty if it can start some day."""
        limit = QUEUES.get(self.queue or "main")
        if self.cores > NODE_CORES:
            return "cores"
        if self.memory is not None and self.memory > NODE_MEMORY:
            return "memory"
        if self.gpus > NODE_GPUS:
            return "gpus"
        if self.nodes > NODES:
            return "nodes"
        if limit is not None and self.walltime is not None and self.walltime > limit:
            return "walltime"
        return ""

    def check(self) -> None:
        """Refuse what every system refuses: a queue and an account that are not there."""
        if self.queue and self.queue not in QUEUES:
            raise Refused("queue", self.queue)
        if self.account and self.account not in ACCOUNTS:
            raise Refused("account", self.account)


class Job:
    """One job of an array."""

    def __init__(self, number: int, index: int, now: float) -> None:
        self.number = number  # its own number, where the system gives one to each
        self.index = index
        self.state = PENDING
        self.why = BUSY
        self.code = 0
        self.signal = 0
        self.submitted = now
        self.started: float | None = None
        self.ended: float | None = None
        self.expected: float | None = None  # when it should start, while it waits
        self.deadline: float | None = None  # when it will be ended, while it runs
        self.node = ""
        self.lives = 0  # how often it started
        self.vanished = False  # neither listed nor recorded
        self.joined = False  # the simulation's: a worker of it joined

    @property
    def live(self) -> bool:
        return self.state in LIVE


class Array:
    """One submission."""

    def __init__(self, number: int, name: str, request: Request, script: str) -> None:
        self.number = number
        self.name = name
        self.request = request
        self.script = script
        self.jobs: dict[int, Job] = {}
        self.extra: dict[str, str] = {}  # what only its dialect understands

    @property
    def live(self) -> bool:
        return any(job.state in LIVE for job in self.jobs.values())


class Faults:
    """What goes wrong; each is a switch or counts down."""

    def __init__(self) -> None:
        self.slow = 0.0  # seconds before each answer
        self.down = ""  # "refuses": in its own words; "hangs": says nothing
        self.busy = 0  # so many commands are told to try again
        self.garbage = ""  # printed in place of every answer
        self.garbage_code = 0
        self.cut: int | None = None  # characters of standard output that arrive
        self.chatter = False  # a site's wrapper talks before and after
        self.lose_reply = ""  # "hangs", "killed": the next submission works, its answer is lost
        self.lose_request = ""  # likewise: it never arrives
        self.refuse = ""  # every submission, for this neutral reason
        self.script = ""  # "broken": jobs fail as they start


class Core:
    """All jobs of one user, and a number of slots.

    Time is the machine's unless `virtual` says otherwise.
    """

    def __init__(self, *, slots: int = 1000, max_array: int = 1001, first: int = 100) -> None:
        self.slots = slots
        self.max_array = max_array
        self.arrays: dict[int, Array] = {}
        self.next = first
        self.virtual: float | None = None
        self.faults = Faults()
        self.forget = False  # ended jobs leave the listing at once
        self.accounting = True
        self.most: int | None = None  # live jobs that a user may have
        self.queue_time = 0.0  # seconds that a job waits, whatever is free
        self.kill_late = False  # whether a walltime that is over ends a job
        self.mute = False  # whether workers start and never join
        self.black_hole = ""  # a node where every job fails as it starts
        self.submits: list[tuple[str, int]] = []
        self.cancels: list[int] = []  # how many live jobs each cancel command ended
        self.commands: list[tuple[str, ...]] = []
        self.on_submit: Callable[[int], None] | None = None

    def now(self) -> float:
        return time.time() if self.virtual is None else self.virtual

    # -- what users do ----------------------------------------------------------------------------

    def submit(
        self, name: str, indices: Iterable[int], request: Request, script: str, **extra: str
    ) -> Array:
        """Add an array.

        Raises
        ------
        Refused
            For the neutral reasons: refuse, queue, account, too many.
        """
        indices = list(indices)
        if self.faults.refuse:
            raise Refused(self.faults.refuse, request.queue)
        request.check()
        if len(indices) > self.max_array:
            raise Refused("too many", len(indices))
        if self.most is not None and self.live() + len(indices) > self.most:
            raise Refused("limit")
        if self.on_submit is not None:
            self.on_submit(len(indices))
        array = Array(self.next, name, request, script)
        array.extra.update(extra)
        now = self.now()
        why = IMPOSSIBLE if request.fits() else BUSY
        for offset, index in enumerate(indices):
            job = array.jobs[index] = Job(self.next + offset, index, now)
            job.why = why
        self.next += len(indices)
        self.arrays[array.number] = array
        self.submits.append((name, len(indices)))
        return array

    def cancel(self, array: Array, indices: Iterable[int] | None = None) -> list[Job]:
        """End live jobs of an array, all without indices; which ones it were."""
        chosen = array.jobs if indices is None else [i for i in indices if i in array.jobs]
        ended = [array.jobs[i] for i in chosen if array.jobs[i].state in LIVE]
        for job in ended:
            self.end(job, CANCELLED)
        return ended

    # -- what befalls jobs ------------------------------------------------------------------------

    def start(self, job: Job, node: int = 1) -> None:
        job.state, job.why, job.node = RUNNING, "", f"node{node:02d}"
        job.started, job.ended, job.lives = self.now(), None, job.lives + 1

    def end(self, job: Job, state: str, code: int = 0, signal: int = 0) -> None:
        job.state, job.code, job.signal, job.ended = state, code, signal, self.now()

    def hold(self, job: Job) -> None:
        job.state = HELD

    def requeue(self, job: Job) -> None:
        """Back into the queue under the same identity."""
        job.state, job.why, job.node = PENDING, REQUEUED, ""
        job.started = job.ended = None
        job.joined = False

    def tick(self) -> list[str]:
        """Start what fits; names of workers that join."""
        running = sum(job.state == RUNNING for _, job in self.jobs())
        joined = []
        for array, job in self.jobs():
            if job.state == PENDING and running < self.slots and self._may_start(job):
                self.start(job, self._node(array, job))
                running += 1
            elif job.state == RUNNING and self._over(array, job):
                self.end(job, TIMEOUT)
            elif job.state == RUNNING and not job.joined:
                if self.faults.script == "broken" or job.node == self.black_hole:
                    self.end(job, FAILED, code=1)
                    continue
                if self.mute:
                    continue
                job.joined = True
                joined.append(f"{array.name}-{job.index}-0")
        return joined

    def _may_start(self, job: Job) -> bool:
        return job.why != IMPOSSIBLE and self.now() >= job.submitted + self.queue_time

    def _over(self, array: Array, job: Job) -> bool:
        limit = array.request.walltime
        late = limit is not None and job.started is not None and self.now() > job.started + limit
        return self.kill_late and late

    def _node(self, array: Array, job: Job) -> int:
        """A node that was not excluded; the same for a job and for all that fail like it."""
        free = [n for n in range(1, NODES + 1) if f"node{n:02d}" not in array.request.exclude]
        return free[job.index % len(free)] if self.black_hole else 1

    # -- what is seen -----------------------------------------------------------------------------

    def jobs(self) -> Iterator[tuple[Array, Job]]:
        for array in self.arrays.values():
            for job in array.jobs.values():
                yield array, job

    def live(self) -> int:
        """The truth: jobs that may run."""
        return sum(job.state in LIVE for _, job in self.jobs())

    def listed(self, job: Job) -> bool:
        """Whether the live listing still shows a job."""
        return not job.vanished and (job.state in LIVE or not self.forget)

    def recorded(self, job: Job) -> bool:
        """Whether accounting knows how a job ended."""
        return self.accounting and not job.vanished
