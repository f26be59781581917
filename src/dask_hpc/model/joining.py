"""How thousands of workers join one head: one after the other, within what it can do at once.

Numbers with their reasons, and pure functions over them, for both sides: a supervisor waits a
little before it knocks, and the head tells it when its workers may come in.
"""

from __future__ import annotations

from dask_hpc.errors import ConfigurationError

#: Name under which a head tells whose turn it is.
TURN = "dask_hpc_turn"
#: Name under which a head is told which workers must go, and how many seconds they have.
LEAVING = "dask_hpc_leaving"
#: Seconds of a scheduler's processor for one worker to join: three TLS connections, registration
#: and first heartbeats took 4.8 to 6.7 ms each with 2,000 workers (docs/many-workers.md).
JOIN_SECONDS = 0.006
#: Workers that may join at once, without a wait: the head is deaf for as long, 0.4 s.
AT_ONCE = 64
#: Seconds of a scheduler's processor for a supervisor's first connection.
KNOCK_SECONDS = 0.003
#: No supervisor waits longer before it knocks: it may as well be the only one to start now.
LONGEST_KNOCK = 3.0
#: Connections of a worker to its scheduler: its nanny's, its stream, its heartbeat's, and one the
#: scheduler opens when it first sends something to all (Client.run, a plugin).
FILES_PER_WORKER = 4
#: Open files beside: clients, the dashboard, logs, the guardian.
FILES_BESIDE = 256


class Turns:
    """When the next workers may join: a queue that is served at the pace of the head.

    No clock of its own; `now` is any that does not go back, in seconds.
    """

    def __init__(self) -> None:
        self._served = 0.0

    def take(self, workers: int, now: float) -> float:
        """Join the queue.

        Parameters
        ----------
        workers
            That will join together.
        now
            The time.

        Returns
        -------
        float
            Seconds until they may; 0 as long as not more than `AT_ONCE` have come in a moment.
        """
        begins = max(now, self._served)
        self._served = begins + workers * JOIN_SECONDS
        return max(0.0, begins - now - AT_ONCE * JOIN_SECONDS)


def knock_delay(position: int) -> float:
    """Seconds that a supervisor waits before it first connects.

    Parameters
    ----------
    position
        Place, from 0, among those that may start in the same moment: number of the node in its
        launch, index of the job in its array.

    Returns
    -------
    float
        All of a launch of N knock within N times `KNOCK_SECONDS`, and at most `LONGEST_KNOCK`.
    """
    return position * KNOCK_SECONDS % LONGEST_KNOCK


def patience(workers: int) -> float:
    """Seconds, beyond those for a few, after which so many workers that start at once have joined.

    Twice what the head needs: it may be a slow machine, or have other work.
    """
    return 2 * workers * JOIN_SECONDS


def check_files(workers: int, limit: int) -> None:
    """See that a head can hold the connections of so many workers.

    Parameters
    ----------
    workers
        In all.
    limit
        Files that its process may open.

    Raises
    ------
    ConfigurationError
        If they are more than that.
    """
    needed = workers * FILES_PER_WORKER + FILES_BESIDE
    if needed > limit:
        most = max(0, limit - FILES_BESIDE) // FILES_PER_WORKER
        raise ConfigurationError(
            f"{workers} workers need about {needed} open files in their scheduler, and its process"
            f" may have {limit} (RLIMIT_NOFILE): enough for {most} workers",
            hint="use fewer workers with more threads, start the scheduler where `ulimit -Hn` is"
            " higher, or ask the administrators for more",
        )
