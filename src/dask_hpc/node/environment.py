"""The environment that must stand before the interpreter starts, and how to get it.

Nothing large may be imported here: the process may be replaced right after.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_hpc.node.options import WorkerOptions

#: What workers need and cannot set for themselves any more: the hash seed is read at exec, the
#: thread counts when numpy's libraries are loaded.  Values are the engine's own
#: (``distributed.nanny.pre-spawn-environ``); the seed must be equal in all workers of a cluster.
#: malloc's trim threshold, the engine's fifth, is set by `spawn` once the imports are done.
DEFAULTS: Mapping[str, str] = {
    "PYTHONHASHSEED": "6640",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_THREADS = tuple(name for name in DEFAULTS if name.endswith("_NUM_THREADS"))


def missing(environ: Mapping[str, str], threads: int = 1) -> dict[str, str]:
    """Variables to add: what the user set stays, but a random hash seed does not.

    Parameters
    ----------
    environ
        Of this process.
    threads
        Of numpy's libraries for each thread of a worker.  1 is right wherever workers' threads fill
        the cores: each of them may call such a library at the same time.
    """
    ours = {**DEFAULTS, **dict.fromkeys(_THREADS, str(threads))}
    lacking = {name: value for name, value in ours.items() if name not in environ}
    if environ.get("PYTHONHASHSEED") in {"", "random"}:
        lacking["PYTHONHASHSEED"] = DEFAULTS["PYTHONHASHSEED"]
    return lacking


def ensure(options: WorkerOptions) -> None:
    """Replace this process by itself with the environment that workers need, if it lacks some.

    Job scripts export the variables, so this costs an interpreter start only where a person typed
    the command.

    Raises
    ------
    NodeError
        If the job has less than the options ask for.
    """
    if not missing(os.environ):
        return
    lacking = missing(os.environ, _library_threads(options))
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, **lacking})  # noqa: S606  (no shell)


def _library_threads(options: WorkerOptions) -> int:
    """Threads of numpy's libraries that fill the cores which the workers' own threads leave."""
    if options.nthreads is None:  # they leave none
        return 1
    from dask_hpc.node import limits

    return limits.library_threads(options, limits.look(devices=bool(options.gpus)))
