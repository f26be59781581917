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
    all_nodes
        Whether `cores` are those of all nodes together.
    node_file
        Path of a file that lists its nodes, a line per core; or, with `all_nodes`, per node its
        name and its cores.
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
    all_nodes: bool = False
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
        all_nodes=True,
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

#: Batch systems that are started inside jobs of others, so that theirs is the nearer one.
_INNER = ("local", "flux")
#: Variables that are set outside of jobs too.
_COMMON = ("TMPDIR", "PBS_JOBFS")


def job_of(environ: Mapping[str, str]) -> JobVariables | None:
    """Which batch system's job this is, by its variables; None outside of jobs.

    An id alone is no sign: ``JOB_ID`` is also set by programs that have nothing to do with a batch
    system.  Of two that call their ids alike, the one counts more of whose variables are set.
    """
    inner = [BY_BATCH[name] for name in _INNER]
    rows = inner + [row for row in JOB_VARIABLES if row not in inner]
    signs = {row.batch: _signs(row, environ) for row in rows if environ.get(row.job_id)}
    here = [row for row in rows if signs.get(row.batch)]
    rivals = [row for row in here if row.job_id == here[0].job_id]
    return max(rivals, key=lambda row: signs[row.batch], default=None)


def _signs(row: JobVariables, environ: Mapping[str, str]) -> int:
    names = {row.index, row.nodes, row.node_file, row.end, row.walltime, *row.cores, *row.scratch}
    return sum(bool(environ.get(name)) for name in names if name and name not in _COMMON)


def name_of_job(environ: Mapping[str, str]) -> str:
    """Say which job this is, as in ``"4711"`` or ``"4711.3"``; empty outside of jobs."""
    row = job_of(environ)
    if row is None:
        return ""
    whole = "" if "/" in environ[row.job_id] else environ[row.job_id]  # HTCondor's is a file
    number = "".join(each if each.isalnum() else "_" for each in whole.partition(".")[0])
    index = environ.get(row.index, "")
    return ".".join(filter(None, [number.strip("_"), index if index.isdecimal() else ""]))


def position(environ: Mapping[str, str], node: str | None) -> int:
    """Place, from 0, of a node among all that the batch system may start in the same moment.

    Parameters
    ----------
    environ
        Tells the index of the job in its array.
    node
        Number of the node in its job, if it has one.
    """
    row = job_of(environ)
    index = _number(environ, row.index) if row is not None else 0
    return index + (int(node) if node and node.isdecimal() else 0)


def told_cores(environ: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Cores on this node as batch systems tell them, each with its variable's name."""
    for row in JOB_VARIABLES:
        if not environ.get(row.job_id) or _of_all_nodes(row, environ):
            continue
        for name in row.cores:
            if number := _number(environ, name):
                yield number, name


def cores_file(environ: Mapping[str, str]) -> str:
    """Variable with the path of the file that alone tells this node's cores; empty without one."""
    return next(
        (
            row.node_file
            for row in JOB_VARIABLES
            if environ.get(row.job_id) and _of_all_nodes(row, environ)
        ),
        "",
    )


def listed_cores(text: str, host: str) -> int:
    """Cores of a host in such a file, which may have several lines for it; 0 if it has none.

    Parameters
    ----------
    text
        Of the file: a name, cores and more on each line.
    host
        Its name, which the file may have with or without a domain.
    """
    short = host.partition(".")[0]
    rows = (line.split() for line in text.splitlines())
    found = [row for row in rows if len(row) > 1 and row[0].partition(".")[0] == short]
    return sum(int(row[1]) for row in found if row[1].isdecimal())


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


def _of_all_nodes(row: JobVariables, environ: Mapping[str, str]) -> bool:
    return row.all_nodes and _number(environ, row.nodes) > 1


def _number(environ: Mapping[str, str], name: str) -> int:
    """Value of a variable; 0 where it is unset, "undefined" or no number."""
    value = environ.get(name, "")
    return int(value) if value.isdecimal() else 0
