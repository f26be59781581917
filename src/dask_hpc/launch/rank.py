"""Who am I in a parallel launch: each launcher's environment, as data, and a lookup over it.

Pure, and read by every rank before anything else: it must stay cheap to import.  A row names only
variables that were seen in a real launch here, or that the manual its comment names documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rank(NamedTuple):
    """One process of a launch, as its launcher describes it.

    Parameters
    ----------
    launcher
        Name of the row in `LAUNCHERS`.
    rank, size
        Of this process, and of the world as the launcher means it; the size is 0 if it tells none.
    local_rank, local_size
        The same on this node; None if the launcher does not tell.
    launch
        What all ranks of this launch share and no other launch has; empty if there is no such.
    variable
        Its environment variable of the rank: processes without it are no ranks.
    """

    launcher: str
    rank: int
    size: int
    local_rank: int | None
    local_size: int | None
    launch: str
    variable: str

    @property
    def on_one_node(self) -> bool:
        """Whether the launcher says that all ranks are on this node."""
        return self.size > 0 and self.local_size == self.size


class Launcher(NamedTuple):
    """Variables by which one launcher tells its processes who they are.

    Parameters
    ----------
    name
        For messages: the program that people type.
    rank, size, local_rank, local_size
        Names of variables; empty if there is none.
    launch
        Variables that together name the launch.
    needs
        Variables that must be set as well, where another launcher sets the same rank.
    tasks_per_node, node, nodes
        Where there is no local size: a list such as ``2(x3),1``, this node's index in it, and the
        number of nodes.
    may_leave
        Whether a rank may end, with 0, long before the others, and nobody minds.
    """

    name: str
    rank: str
    size: str = ""
    local_rank: str = ""
    local_size: str = ""
    launch: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    tasks_per_node: str = ""
    node: str = ""
    nodes: str = ""
    may_leave: bool = False


#: In the order in which a process looks: mpirun runs inside allocations of all the others, whose
#: variables its processes inherit.
LAUNCHERS = (
    Launcher(  # IBM JSM, which sets Open MPI's variables too
        name="jsrun",
        rank="JSM_NAMESPACE_RANK",
        size="JSM_NAMESPACE_SIZE",
        local_rank="JSM_NAMESPACE_LOCAL_RANK",
        local_size="JSM_NAMESPACE_LOCAL_SIZE",
    ),
    Launcher(  # Open MPI: "Environment variables set for MPI applications"; seen: 4.1.4, 5.0.11
        name="Open MPI's mpirun",
        rank="OMPI_COMM_WORLD_RANK",
        size="OMPI_COMM_WORLD_SIZE",
        local_rank="OMPI_COMM_WORLD_LOCAL_RANK",
        local_size="OMPI_COMM_WORLD_LOCAL_SIZE",
        launch=("PMIX_NAMESPACE", "PMIX_SERVER_URI2"),
        may_leave=True,
    ),
    Launcher(  # MVAPICH2 user guide, mpirun_rsh
        name="MVAPICH2's mpirun_rsh",
        rank="MV2_COMM_WORLD_RANK",
        size="MV2_COMM_WORLD_SIZE",
        local_rank="MV2_COMM_WORLD_LOCAL_RANK",
        local_size="MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    Launcher(  # Hydra of MPICH (seen: 4.0.2, 5.0.2) and of Intel MPI; Slurm's PMI has no MPI_LOCAL*
        name="MPICH's mpirun",
        rank="PMI_RANK",
        size="PMI_SIZE",
        local_rank="MPI_LOCALRANKID",
        local_size="MPI_LOCALNRANKS",
        needs=("MPI_LOCALRANKID",),
        may_leave=True,
    ),
    Launcher(  # HPE Parallel Application Launch Service, mpiexec(1)
        name="PALS mpiexec",
        rank="PALS_RANKID",
        size="PMI_SIZE",
        local_rank="PALS_LOCAL_RANKID",
        local_size="PALS_LOCAL_SIZE",
        launch=("PALS_APID",),
    ),
    Launcher(  # srun(1), OUTPUT ENVIRONMENT VARIABLES; seen: 22.05.8.  A batch script is no step.
        name="srun",
        rank="SLURM_PROCID",
        size="SLURM_STEP_NUM_TASKS",
        local_rank="SLURM_LOCALID",
        launch=("SLURM_JOB_ID", "SLURM_STEP_ID"),
        needs=("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"),
        tasks_per_node="SLURM_STEP_TASKS_PER_NODE",
        node="SLURM_NODEID",
    ),
    Launcher(  # flux-environment(7)
        name="flux run",
        rank="FLUX_TASK_RANK",
        size="FLUX_JOB_SIZE",
        local_rank="FLUX_TASK_LOCAL_ID",
        launch=("FLUX_JOB_ID",),
        nodes="FLUX_JOB_NNODES",
    ),
    Launcher(name="aprun", rank="ALPS_APP_PE", launch=("ALPS_APP_ID",)),  # Cray ALPS: no size
    Launcher(  # any launcher that speaks PMI (Flux RFC 13)
        name="a PMI launcher",
        rank="PMI_RANK",
        size="PMI_SIZE",
        local_rank="PMI_LOCAL_RANK",
        local_size="PMI_LOCAL_SIZE",
    ),
    Launcher(name="a PMIx launcher", rank="PMIX_RANK", launch=("PMIX_NAMESPACE",)),
)
_MAY_LEAVE = frozenset(row.name for row in LAUNCHERS if row.may_leave)


def read(environ: Mapping[str, str]) -> Rank | None:
    """Find this process's rank.

    Parameters
    ----------
    environ
        Of this process.

    Returns
    -------
    Rank or None
        None if no launcher that we know started it.
    """
    for row in LAUNCHERS:
        rank = _number(environ, row.rank)
        if rank is None or not all(environ.get(name) for name in row.needs):
            continue
        size = _number(environ, row.size) or 0
        return Rank(
            launcher=row.name,
            rank=rank,
            size=size,
            local_rank=_number(environ, row.local_rank),
            local_size=_local_size(environ, row, size),
            launch=".".join(filter(None, map(environ.get, row.launch))),
            variable=row.rank,
        )
    return None


def may_leave(launcher: str) -> bool:
    """Whether a rank that has nothing to do may end at once.

    Open MPI's and MPICH's mpirun do not mind, and then a rank that is killed can end nothing.
    Others do: srun may be told to (``WaitTime``), Flux always ends a job 30 s after its first task.
    """
    return launcher in _MAY_LEAVE


def _local_size(environ: Mapping[str, str], row: Launcher, size: int) -> int | None:
    if row.local_size:
        return _number(environ, row.local_size)
    if row.nodes and _number(environ, row.nodes) == 1:
        return size or None
    node = _number(environ, row.node)
    tasks = _tasks(environ.get(row.tasks_per_node, "")) if row.tasks_per_node else []
    return tasks[node] if node is not None and node < len(tasks) else None


def _tasks(text: str) -> list[int]:
    """Tasks of each node, of ``2(x3),1``."""
    tasks: list[int] = []
    for part in filter(None, text.split(",")):  # no regular expression: `re` costs 5 ms
        number, _, times = part.partition("(x")
        if not number.isdecimal():
            return []
        tasks += [int(number)] * int(times.rstrip(")") or 1)
    return tasks


def _number(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name, "") if name else ""
    return int(value) if value.isdecimal() else None
