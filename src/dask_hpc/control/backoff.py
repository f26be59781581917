"""Every limit and delay of the controller, with its reason, in one place.

Pure: no clock, no process.  Callers pass ``now`` in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Start failures (jobs that ended before a worker joined) in a row before nothing more is
#: submitted.  One may be a bad node, two bad luck; three are a mistake that repeats, and every
#: further try would cost the user queue time and the site a job.
MAX_START_FAILURES = 3

#: Seconds to wait after the first start failure; doubles with each.  Long enough for a passing
#: fault (a file server that stalls), short enough that a user sees the pause within seconds.
FIRST_DELAY = 1.0
MAX_DELAY = 60.0

#: Seconds before a submission is tried again that could not even be attempted.
UNANSWERED_DELAY = 5.0

#: Seconds between two queries.  At least: nobody needs the queue fresher, and a site counts
#: calls.  At most: a job that vanished without a word is noticed within it.  The interval grows by
#: the factor while nothing changes, so a cluster that waits overnight asks twice a minute.
MIN_POLL = 2.0
MAX_POLL = 30.0
POLL_GROWTH = 1.5

#: Seconds after a submission of unknown outcome before its absence from a successful query may be
#: believed: a controller that timed out may still work on the request it has read.
IN_DOUBT_SETTLE = 30.0

#: Seconds after a submission during which a job that no query has shown yet is not yet listed
#: rather than gone (servers with several threads, LSF's and PBS's caches).
UNLISTED_GRACE = 15.0

#: Seconds between two looks into why the jobs of one array wait, on a batch system that tells it
#: only when asked job by job: reasons change slowly, and the answer may be long.
WHY_INTERVAL = 120.0

#: Seconds that a job whose workers have left may take to end by itself before it is cancelled.
LEAVE_GRACE = 20.0

#: Seconds between two looks at the demand of an adaptive cluster: with the submit command itself, a
#: burst of tasks has its jobs in the queue within two seconds.
DEMAND_INTERVAL = 1.0

#: Seconds for which fewer jobs must be enough before an adaptive cluster gives any up.  It follows
#: how long jobs take from their submission to their first worker.  At least: a dip between two
#: steps of one computation is shorter.  At most: cores that idle longer are taken from others,
#: however full the queue.
MIN_PATIENCE = 5.0
MAX_PATIENCE = 600.0

#: Seconds for which a pool that follows the demand keeps the jobs that a new head has taken over:
#: their clients must see that the old one is gone, connect, and submit again.
RETURN = 120.0

#: Seconds before its estimated start in which a pending job is not given up for a fall of the
#: demand: the place in the queue was paid for with the time waited.
NEAR_START = 60.0


#: Seconds that a job is expected to take from its submission to its first worker as long as none
#: has shown it.  Too long costs a short overlap of two jobs, too short a gap.
FIRST_WAIT = 30.0

#: Seconds, and bytes per second, with which the hand-over of a job's data is reckoned: replicas are
#: asked for every two seconds, and a gigabit network that others use too gives half of its rate.
MIN_RESERVE = 15.0
MAX_RESERVE = 600.0
HANDOVER_RATE = 50e6

#: Parts of its walltime before a job's end in which it may be asked to leave, or be replaced: a
#: job that spends more on going than that is of no use, and one that is replaced as it starts
#: stands in the queue twice.
LONGEST_RESERVE = 0.25
LONGEST_LEAD = 0.75

#: Part of the walltime, and seconds at most, by which jobs are renewed too early so that one
#: submission serves many.
RENEW_TOGETHER = 0.05
MAX_TOGETHER = 60.0

#: Seconds of difference between deadlines below which jobs leave together.
LEAVE_TOGETHER = 5.0

#: Start failures on one node, with no success there in between, after which no job is sent to it
#: for a while, and how long; and how many nodes at most: where more fail, it is not the nodes.
NODE_FAILURES = 2
NODE_REST = 1800.0
MOST_EXCLUDED = 20

#: Seconds after which it is tried again, with one job, where repeated failures or a refusal had
#: stopped the cluster; doubles with each try that fails.  The user may resume at any time.
FIRST_REST = 600.0
MAX_REST = 7200.0

#: Seconds between two lines of the journal on what tasks have cost: so much of it a head that dies
#: may take along.  Of jobs nothing is lost: there is a line before that of a submission's end.
ACCOUNT_INTERVAL = 60.0

#: Seconds for which a limit on the user's jobs, learnt from refusals, is believed: jobs of theirs
#: that are not this cluster's come and go.
LIMIT_BELIEVED = 600.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Whether something may be submitted now.

    Parameters
    ----------
    allowed
        Now.
    not_before
        Otherwise: when to ask again.
    most
        Jobs at most, or None for any number.
    """

    allowed: bool
    not_before: float | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How many start failures there were in a row, and what follows from it.

    Parameters
    ----------
    failures
        Since the last success or resumption.
    last
        When the last one was seen.
    refused
        Whether the batch system refused the last submission outright.
    deferred
        When to try again after the batch system did not answer.
    rests
        How often it was tried again, after a rest, and failed.
    """

    failures: int = 0
    last: float = 0.0
    refused: bool = False
    deferred: float = 0.0
    rests: int = 0

    def exhausted(self, up: int) -> bool:
        """Whether nothing more is submitted until the user resumes, or a long rest is over.

        Parameters
        ----------
        up
            Jobs whose workers are at work: each proves the script good, so that one bad node
            among many does not stop a large cluster.
        """
        return self.refused or self.failures >= MAX_START_FAILURES + up

    def failed(self, jobs: int, now: float, up: int = 0) -> Budget:
        """Budget after jobs that ended before a worker joined."""
        again = self.exhausted(up) and now - self.last >= self._rest
        return replace(self, failures=self.failures + jobs, last=now, rests=self.rests + int(again))

    def rejected(self, now: float) -> Budget:
        """Budget after the batch system refused a submission: a repeat would be refused too."""
        return replace(self, refused=True, last=now, rests=self.rests + int(self.refused))

    def accepted(self) -> Budget:
        """Budget after the batch system took a submission."""
        return replace(self, refused=False)

    def unanswered(self, now: float) -> Budget:
        """Budget after the batch system did not answer: its weather, nobody's failure."""
        return replace(self, deferred=now + UNANSWERED_DELAY)

    def succeeded(self) -> Budget:
        """Budget after a job lasted: the script, its node and the network are good."""
        return self if self.refused else Budget()

    def permit(self, now: float, up: int) -> Permit:
        """Whether to submit now, with ``up`` jobs at work."""
        if self.exhausted(up):
            over = self.last + self._rest
            return Permit(now >= over, over, most=1)
        not_before = self.deferred
        if self.failures:
            delay = min(FIRST_DELAY * 2 ** (self.failures - 1), MAX_DELAY)
            not_before = max(not_before, self.last + delay)
        return Permit(allowed=now >= not_before, not_before=not_before)

    @property
    def _rest(self) -> float:
        return min(FIRST_REST * 2.0**self.rests, MAX_REST)


def next_poll(interval: float, *, changed: bool) -> float:
    """Seconds until the next query, from the last interval and whether that query saw a change."""
    return MIN_POLL if changed else min(interval * POLL_GROWTH, MAX_POLL)
