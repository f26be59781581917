"""How a job of several nodes starts itself once on each of them: launchers, as data and shell text.

Pure: shell lines for the job script come out, nothing is run here.  The lines are POSIX shell; they
find the job's own name in ``$dask_hpc_job``, and what they start gets it as an argument, since some
launchers pass no environment.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import ON_NODE, Launch

#: The node's own name, short: no two nodes of a job share it, whatever the launcher tells.  It
#: becomes a part of workers' names, between dashes.
_HOST_NAME = "$(uname -n | sed 's/[.].*//; s/[^A-Za-z0-9_]/_/g')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """A command that starts another one on nodes of the allocation it is in.

    Parameters
    ----------
    words
        The shell words before the command; ``{nodes}`` and ``{cores}`` (per node) are filled in.
    each
        Whether it is called for each node, the name of which ``$dask_hpc_host`` holds.
    node
        Shell expression that tells the nodes of a job apart, on the node.
    by_shell
        Whether a shell on the node reads the command once more.
    all_or_none
        Whether it ends all nodes as soon as the command fails on one.
    strict
        Whether it fails by itself in an allocation of fewer nodes.
    """

    words: str
    each: bool = False
    node: str = _HOST_NAME
    by_shell: bool = False
    all_or_none: bool = False
    strict: bool = False


LAUNCHERS: Mapping[str, Launcher] = {
    # srun(1).  A step does not inherit --cpus-per-task since 22.05; without a limit of its own to
    # the wait a site's WaitTime counts, likewise KillOnBadExit; --mpi=none, as a worker is no rank.
    "srun": Launcher(
        words=(
            "srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1"
            ' --cpus-per-task="${{SLURM_CPUS_PER_TASK:-{cores}}}" --cpu-bind=none --export=ALL'
            " --input=none --kill-on-bad-exit=0 --no-kill --wait=0 --mpi=none"
        ),
        node="$SLURM_NODEID",
        strict=True,
    ),
    # pbsdsh(1B) of OpenPBS: one copy for each line of PBS_NODEFILE, that is for each chunk.
    "pbsdsh": Launcher(words="pbsdsh --"),
    # pbsdsh(1B) of TORQUE: -u is once for each host, however many cores it has in the file.
    "pbsdsh -u": Launcher(words="pbsdsh -u --"),
    # blaunch in IBM's command reference: called like rsh, standard input closed by -n.
    "blaunch": Launcher(words='blaunch -n "$dask_hpc_host"', each=True, node="$3"),
    # oarsh(1): ssh with the job's own key and cpuset.
    "oarsh": Launcher(
        words='oarsh -n -o ServerAliveInterval=30 "$dask_hpc_host"',
        each=True,
        node="$3",
        by_shell=True,
    ),
    # sge_submit(1), -inherit: a task of this job, on a host that it has; seen: a shell reads it.
    "qrsh": Launcher(
        words='qrsh -inherit -nostdin "$dask_hpc_host"', each=True, node="$3", by_shell=True
    ),
    "ssh": Launcher(  # ssh(1); without the probes a node that died is noticed after hours
        words='ssh -n -o BatchMode=yes -o ServerAliveInterval=30 "$dask_hpc_host"',
        each=True,
        node="$3",
        by_shell=True,
    ),
    # Hydra of MPICH, Intel MPI and MVAPICH, mpiexec -help.
    "mpiexec": Launcher(words="mpiexec -n {nodes} -ppn 1", all_or_none=True),
    # Open MPI, mpirun(1).
    "mpirun": Launcher(
        words="mpirun -n {nodes} --map-by ppr:1:node --bind-to none", all_or_none=True
    ),
}

#: The launcher of each batch system.
BY_BATCH: Mapping[str, str] = {
    "slurm": "srun",
    "pbs": "pbsdsh",
    "torque": "pbsdsh -u",
    "lsf": "blaunch",
    "openlava": "blaunch",
    "oar": "oarsh",
    "sge": "qrsh",
}

#: Shell commands that print each host of a job once.
HOSTS: Mapping[str, str] = {
    "slurm": 'scontrol show hostnames "$SLURM_JOB_NODELIST"',
    "pbs": 'sort -u "$PBS_NODEFILE"',
    "torque": 'sort -u "$PBS_NODEFILE"',
    # A host, its slots, a host ...
    "lsf": "echo \"$LSB_MCPU_HOSTS\" | awk '{ for (i = 1; i < NF; i += 2) print $i }'",
    "openlava": "echo \"$LSB_MCPU_HOSTS\" | awk '{ for (i = 1; i < NF; i += 2) print $i }'",
    "oar": 'sort -u "$OAR_NODEFILE"',
    # A host has a line for each of its queues.
    "sge": "awk '!seen[$1]++ { print $1 }' \"$PE_HOSTFILE\"",
}

#: Shell lines that end a job whose hosts do not have what was asked for, where that is possible.
CHECKS: Mapping[str, str] = {
    # What the parallel environment's allocation_rule gave; only the first host knows the file.
    "sge": """\
awk '{{ slots[$1] += $2 }} END {{ for (host in slots) if (slots[host] < {cores}) {{
    print "dask-hpc: this job was given " slots[host] " slots on " host ", not {cores}"
    exit 78
}} }}' "$PE_HOSTFILE" || exit""",
}

#: Batch systems of which a job has one node.
_ONE_NODE = ("htcondor", "local")

_COUNT = """\
set -- $({hosts})
if [ "$#" -ne {nodes} ]; then
    echo "dask-hpc: this job was given $# nodes, not {nodes}: $*"
    exit 78
fi"""

_ALL = """\
{line} {on_node} "$dask_hpc_job"
exit"""

# A signal ends wait, and not what it waits for.
_EACH = """\
dask_hpc_node=0
dask_hpc_pids=
for dask_hpc_host in "$@"; do
    (
        {line} {on_node} "$dask_hpc_job" "$dask_hpc_node" </dev/null && exit
        dask_hpc_status=$?
        echo "dask-hpc: node $dask_hpc_node ($dask_hpc_host): exit status $dask_hpc_status"
        exit "$dask_hpc_status"
    ) &
    dask_hpc_pids="$dask_hpc_pids $!"
    dask_hpc_node=$((dask_hpc_node + 1))
done
dask_hpc_worst=0
for dask_hpc_pid in $dask_hpc_pids; do
    while :; do
        wait "$dask_hpc_pid"
        dask_hpc_status=$?
        [ "$dask_hpc_status" -gt 128 ] && kill -0 "$dask_hpc_pid" 2>/dev/null || break
    done
    [ "$dask_hpc_status" -le "$dask_hpc_worst" ] || dask_hpc_worst=$dask_hpc_status
done
exit "$dask_hpc_worst\""""


def launch(
    batch: str, *, nodes: int, cores: int, script: Sequence[str], launcher: str | None = None
) -> Launch:
    """How a job of several nodes starts its script on each of them.

    Parameters
    ----------
    batch
        Name of the batch system's driver.
    nodes
        Of the job.
    cores
        Of each node.
    script
        The argument list that runs the script.
    launcher
        A name in `LAUNCHERS`, or the words before the command as a shell takes them, with
        ``{nodes}`` and ``{cores}`` filled in; None is the batch system's own.

    Raises
    ------
    ConfigurationError
        If the batch system gives a job one node only, or nothing says how its nodes are reached.
    """
    if batch in _ONE_NODE:
        raise ConfigurationError(
            f"a job of {batch} has one node, not {nodes}", hint="scale() to more jobs instead"
        )
    if batch == "flux":  # it starts the script on each node by itself (flux-submit(1))
        if launcher:
            raise ConfigurationError(
                f"launcher={launcher!r}: Flux itself starts one copy on each node",
                hint="leave launcher= out",
            )
        return Launch((), "$FLUX_TASK_RANK")
    name = launcher or BY_BATCH.get(batch, "")
    if not name:
        raise ConfigurationError(
            f"{nodes} nodes: nothing says how {batch} starts a command on each node of a job",
            hint=f"name a launcher= ({', '.join(LAUNCHERS)}), or the words of another one",
        )
    if "\n" in name or "\r" in name:
        raise ConfigurationError(f"launcher= must be one line, not {name!r}")
    return Launch(*_text(batch, nodes, cores, script, LAUNCHERS.get(name) or _unknown(name)))


def _unknown(words: str) -> Launcher:
    literal = words.replace("{", "{{").replace("}", "}}")
    for known in ("nodes", "cores"):
        literal = literal.replace(f"{{{{{known}}}}}", f"{{{known}}}")
    return Launcher(words=literal, all_or_none=True)


def _text(
    batch: str, nodes: int, cores: int, script: Sequence[str], chosen: Launcher
) -> tuple[tuple[str, ...], str]:
    words = shlex.join(script)
    if chosen.by_shell:
        words = shlex.quote(words)
    if chosen.all_or_none:  # so it never sees a failure; the node's log tells of it
        words = f"sh -c '\"$@\" || :' sh {words}"
    line = f"{chosen.words.format(nodes=nodes, cores=cores)} {words}"
    hosts = HOSTS.get(batch)
    if chosen.each and not hosts:
        raise ConfigurationError(
            f"the launcher is called for each host, and {batch} does not tell a job's hosts",
            hint="name one that starts a command on all nodes, such as mpiexec",
        )
    counted = [_COUNT.format(hosts=hosts, nodes=nodes)] if hosts and not chosen.strict else []
    counted += [CHECKS[batch].format(cores=cores)] if batch in CHECKS else []
    start = (_EACH if chosen.each else _ALL).format(line=line, on_node=ON_NODE)
    return tuple("\n".join([*counted, start]).splitlines()), chosen.node
