"""What each batch system tells its jobs in their environment, as data for the node side.

A table and lookups over it; reading the machine is :mod:`dask_hpc.node`'s business.  No row is to
name a variable that was not seen in a real job or in the manual page its comment names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class JobVariables:
    """Names of the variables by which one batch system tells a job what it has.

    Parameters
    ----------
    batch
        Name of the driver.
    job_id, index
        The job's id, and its index in the array.
    cores
        Cores on this node; the first that is set counts.
    memory
        Memory on this node, and the bytes of one unit.
    memory_per_core
        The same per core.
    nodes
        Number of nodes of the job.
    node_file
        Path of a file that lists its nodes, a line per core.
    end, walltime
        The deadline in seconds since the epoch; the walltime in seconds.
    scratch
        A directory for the job's own files.
    """

    batch: str
    job_id: str
    index: str
    cores: tuple[str, ...] = ()
    memory: tuple[tuple[str, int], ...] = ()
    memory_per_core: tuple[tuple[str, int], ...] = ()
    nodes: str = ""
    node_file: str = ""
    end: str = ""
    walltime: str = ""
    scratch: tuple[str, ...] = ()


#: In the order in which a job looks: one batch system's job may start inside another's.
JOB_VARIABLES = (
    JobVariables(  # sbatch(1), OUTPUT ENVIRONMENT VARIABLES
        batch="slurm",
        job_id="SLURM_JOB_ID",
        index="SLURM_ARRAY_TASK_ID",
        cores=("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
        memory=(("SLURM_MEM_PER_NODE", MIB),),  # 0 is the whole node
        memory_per_core=(("SLURM_MEM_PER_CPU", MIB),),
        nodes="SLURM_JOB_NUM_NODES",
        end="SLURM_JOB_END_TIME",
        scratch=("SLURM_TMPDIR",),
    ),
    JobVariables(  # Flux: flux-environment(7); the index: flux-submit(1), --cc
        batch="flux",
        job_id="FLUX_JOB_ID",
        index="FLUX_JOB_CC",
        nodes="FLUX_JOB_NNODES",
        scratch=("FLUX_JOB_TMPDIR",),
    ),
    JobVariables(  # TORQUE: Administrator Guide, exported batch environment variables
        batch="torque",
        job_id="PBS_JOBID",
        index="PBS_ARRAYID",
        cores=("PBS_NUM_PPN",),
        nodes="PBS_NUM_NODES",
        node_file="PBS_NODEFILE",
        walltime="PBS_WALLTIME",
        scratch=("TMPDIR",),
    ),
    JobVariables(  # PBS: qsub(1B), ENVIRONMENT VARIABLES; PBS_JOBFS is NCI's
        batch="pbs",
        job_id="PBS_JOBID",
        index="PBS_ARRAY_INDEX",
        cores=("NCPUS",),
        node_file="PBS_NODEFILE",
        scratch=("PBS_JOBFS", "TMPDIR"),
    ),
    JobVariables(  # LSF, OpenLava: environment variables set for job execution
        batch="lsf",
        job_id="LSB_JOBID",
        index="LSB_JOBINDEX",
        node_file="LSB_DJOB_HOSTFILE",
    ),
    JobVariables(  # OAR: oarsub(1), environment variables
        batch="oar",
        job_id="OAR_JOB_ID",
        index="OAR_ARRAY_INDEX",
        node_file="OAR_NODEFILE",
        walltime="OAR_JOB_WALLTIME_SECONDS",
    ),
    # Grid Engine: sge_submit(1), ENVIRONMENT VARIABLES.  Of a job on several hosts NSLOTS counts
    # all of them; PE_HOSTFILE has a line per host: its name, slots, queue, processors.
    JobVariables(
        batch="sge",
        job_id="JOB_ID",
        index="SGE_TASK_ID",
        cores=("NSLOTS",),
        nodes="NHOSTS",
        node_file="PE_HOSTFILE",
        scratch=("TMPDIR",),
    ),
    JobVariables(  # HTCondor manual, STARTER_NUM_THREADS_ENV_VARS and "The Job's Environment"
        batch="htcondor",
        job_id="_CONDOR_JOB_AD",
        index="DASK_HPC_INDEX",  # HTCondor has none: our submit command sets it
        cores=("CUBACORES",),  # of those that hold the cores, the one that no script sets
        scratch=("_CONDOR_SCRATCH_DIR",),
    ),
    JobVariables(  # dask_hpc.batch.local_request
        batch="local",
        job_id="LOCAL_JOB_ID",
        index="LOCAL_ARRAY_TASK_ID",
        cores=("LOCAL_CPUS",),
        memory=(("LOCAL_MEM_BYTES", 1),),
        end="LOCAL_JOB_END",
    ),
)

BY_BATCH: Mapping[str, JobVariables] = {each.batch: each for each in JOB_VARIABLES}


def told_cores(environ: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Cores on this node as batch systems tell them, each with its variable's name."""
    for row in JOB_VARIABLES:
        for name in row.cores if environ.get(row.job_id) else ():
            if number := _number(environ, name):
                yield number, name


def told_memory(environ: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Bytes on this node as batch systems tell them, each with its variable's name."""
    for row in JOB_VARIABLES:
        if not environ.get(row.job_id):
            continue
        for name, unit in row.memory:
            if number := _number(environ, name):
                yield number * unit, name
        cores = next((n for name in reversed(row.cores) if (n := _number(environ, name))), 0)
        for name, unit in row.memory_per_core:
            if number := _number(environ, name) * cores:
                yield number * unit, name


def _number(environ: Mapping[str, str], name: str) -> int:
    """Value of a variable; 0 where it is unset, "undefined" or no number."""
    value = environ.get(name, "")
    return int(value) if value.isdecimal() else 0
