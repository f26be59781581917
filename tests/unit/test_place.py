"""Where a script runs: what is seen of a place in, the place and the reason out."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_hpc.cluster.place import (
    Allocation,
    Facts,
    Named,
    Place,
    allocation_of,
    decide,
    parse,
)
from dask_hpc.errors import ConfigurationError
from dask_hpc.launch.rank import Rank

LAUNCH = Rank("srun", 0, 4, 0, 2, "7.0", "SLURM_PROCID")
ALONE = LAUNCH._replace(size=1)
FILE = Named("$DASK_HPC_SCHEDULER_FILE", file=Path("/x/f.json"))
GIVEN = Named("scheduler_file=", file=Path("/x/g.json"), argument=True)
JOB = Allocation(batch="pbs", job="12.server", nodes=3)
EVERYTHING = Facts(launch=LAUNCH, named=FILE, allocation=JOB, batch="pbs", why="qsub is /bin/qsub")


def changed(facts: Facts, **changes: object) -> Facts:
    fields = {name: getattr(facts, name) for name in facts.__dataclass_fields__}
    return Facts(**{**fields, **changes})


# -- the order ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            changed(EVERYTHING, named=GIVEN),
            "scheduler-file: scheduler_file= names /x/g.json",
        ),
        (EVERYTHING, "mpi: srun started 4 ranks"),
        (changed(EVERYTHING, launch=ALONE, launched=True), "mpi: this is the client of an MPI "),
        (
            changed(EVERYTHING, launch=ALONE),
            "scheduler-file: $DASK_HPC_SCHEDULER_FILE names /x/f.json",
        ),
        (
            Facts(named=Named("dask's scheduler-address", address="tls://h:1"), allocation=JOB),
            "scheduler-file: dask's scheduler-address names tls://h:1",
        ),
        (
            changed(EVERYTHING, launch=None, named=None),
            "allocation: this is pbs job 12.server with 3 nodes",
        ),
        (Facts(batch="pbs", why="qsub is /bin/qsub"), "batch: pbs: qsub is /bin/qsub"),
        (Facts(why="no programs are on the PATH"), "local: no programs are on the PATH"),
        (Facts(), "local: there is no batch system here"),
    ],
)
def test_the_first_place_that_is_there_is_taken_and_the_reason_is_said(
    facts: Facts, said: str
) -> None:
    """An argument; a launch; a scheduler that is named; a job; a batch system; this machine."""
    assert str(decide(facts)).startswith(said)


def test_a_launcher_that_tells_no_size_is_believed_to_have_started_several() -> None:
    """Else each rank would run the script."""
    facts = Facts(launch=Rank("aprun", 0, 0, None, None, "", "ALPS_APP_PE"))
    assert str(decide(facts)) == "mpi: aprun started ranks"


# -- what is demanded -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", list(Place))
def test_a_place_that_is_demanded_is_taken_if_it_is_there(place: Place) -> None:
    """Whatever else is."""
    choice = decide(changed(EVERYTHING, where=place))
    assert choice.place is place
    assert choice.why.startswith(f"where='{place}' says so")


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (Place.SCHEDULER_FILE, "no scheduler file is named"),
        (Place.ALLOCATION, "this is no job of a batch system"),
        (Place.BATCH, "there is no batch system here"),
    ],
)
def test_a_place_that_is_demanded_and_not_there_is_an_error(place: Place, what: str) -> None:
    """With what to do instead."""
    with pytest.raises(ConfigurationError, match=f"where='{place}': {what}") as caught:
        decide(Facts(where=place))
    assert caught.value.hint


def test_two_demands_are_an_error() -> None:
    """A file, and another place."""
    with pytest.raises(ConfigurationError, match="two places"):
        decide(Facts(where=Place.BATCH, named=GIVEN))


def test_a_place_that_does_not_exist_is_named() -> None:
    """With those that do."""
    assert parse("batch") is Place.BATCH
    assert parse(None) is None
    with pytest.raises(ConfigurationError, match="mpi, scheduler-file, allocation, batch, local"):
        parse("queue")


# -- the nodes of a job ---------------------------------------------------------------------------

FILES = {
    "/nodes/pbs": "n1\nn2\n",
    "/nodes/pbs-ranks": "n1\nn1\nn2\nn2\n",
    "/nodes/torque": "n1\nn1\nn2\n",
    "/nodes/sge": "n1 4 all.q@n1 UNDEFINED\nn2 3 all.q@n2 UNDEFINED\nn1 1 more.q@n1 UNDEFINED\n",
    "/nodes/lsf": "n1\nn1\nn1\nn1\n",
    "/nodes/oar": "n1\nn1\nn2\nn2\n",
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"JOB_ID": "17", "TMPDIR": "/tmp"}, None),  # Jenkins
        (
            {
                "SLURM_JOB_ID": "7",
                "SLURM_JOB_NUM_NODES": "3",
                "SLURM_JOB_CPUS_PER_NODE": "16(x2),8",
                "SLURM_CPUS_PER_TASK": "2",
                "SLURMD_NODENAME": "n1",
            },
            Allocation(batch="slurm", job="7", nodes=3, cores=8),
        ),
        (  # salloc, on the login node
            {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_CPUS_PER_NODE": "4"},
            Allocation(batch="slurm", job="7", cores=4, inside=False),
        ),
        (
            {"PBS_JOBID": "1.s", "PBS_NODEFILE": "/nodes/pbs", "NCPUS": "8"},
            Allocation(batch="pbs", job="1.s", nodes=2, cores=8, listed=2),
        ),
        (
            {"PBS_JOBID": "1.s", "PBS_NODEFILE": "/nodes/pbs-ranks", "NCPUS": "8"},
            Allocation(batch="pbs", job="1.s", nodes=2, cores=8, listed=4),
        ),
        (
            {
                "PBS_JOBID": "1.s",
                "PBS_NODEFILE": "/nodes/torque",
                "PBS_NUM_NODES": "2",
                "PBS_NUM_PPN": "2",
                "PBS_WALLTIME": "60",
            },
            Allocation(batch="torque", job="1.s", nodes=2, cores=1, listed=3),
        ),
        (
            {"JOB_ID": "9", "SGE_TASK_ID": "undefined", "NSLOTS": "1", "NHOSTS": "1"},
            Allocation(batch="sge", job="9", cores=1),
        ),
        (
            {"JOB_ID": "9", "NSLOTS": "8", "NHOSTS": "2", "PE_HOSTFILE": "/nodes/sge"},
            Allocation(batch="sge", job="9", nodes=2, cores=3, listed=8),
        ),
        (
            {"LSB_JOBID": "5", "LSB_JOBINDEX": "0", "LSB_DJOB_HOSTFILE": "/nodes/lsf"},
            Allocation(batch="lsf", job="5", cores=4, listed=4),
        ),
        (
            {"OAR_JOB_ID": "5", "OAR_NODEFILE": "/nodes/oar"},
            Allocation(batch="oar", job="5", nodes=2, cores=2, listed=4),
        ),
        (
            {"_CONDOR_JOB_AD": "/s/.job.ad", "_CONDOR_SCRATCH_DIR": "/s", "CUBACORES": "2"},
            Allocation(batch="htcondor", job=".job.ad", cores=2),
        ),
        (
            {"FLUX_JOB_ID": "f2", "FLUX_JOB_NNODES": "2", "SLURM_JOB_ID": "7"},
            Allocation(batch="flux", job="f2", nodes=2),
        ),
        (
            {"LOCAL_JOB_ID": "1_0", "LOCAL_CPUS": "2"},
            Allocation(batch="local", job="1_0", cores=2),
        ),
    ],
)
def test_the_nodes_of_a_job_are_what_its_batch_system_tells(
    environ: dict[str, str], expected: Allocation | None
) -> None:
    """Nodes, cores of the smallest, and whether we are on one of them."""
    assert allocation_of(environ, lambda path: FILES.get(path, "")) == expected
