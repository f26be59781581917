"""Jobs of several nodes: how their script starts itself on each, run for real by fake launchers."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster.options import resolve
from dask_hpc.cluster.pools import pool_for
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.script import job_script
from dask_hpc.errors import ConfigurationError
from dask_hpc.launch.launchers import BY_BATCH, launch
from dask_hpc.model.job import JobSpec

OWN: Mapping[str, Mapping[str, str]] = {"sge": {"parallel_environment": "mpi4"}}


def spec(batch: str, directory: Path = Path("/d"), **options: Any) -> JobSpec:
    asked = {"cores": 4, "nodes": 2, "python": "/py", **OWN.get(batch, {}), **options}
    return pool_for(
        resolve(asked, [], driver(batch)),
        scheduler_file=directory / "s.json",
        logs=directory / "logs",
        environment={"GREETING": "a b"},
        directory=directory,
        batch=batch,
        script=directory / "job.sh",
    ).spec


def script(batch: str, directory: Path = Path("/d"), **options: Any) -> str:
    return job_script(spec(batch, directory, **options), driver(batch))


# -- what is written ------------------------------------------------------------------------------

WORKER = (
    '/py -m dask_hpc worker --scheduler-file /d/s.json --name "$dask_hpc_job" --nworkers 4'
    ' --nthreads 1 --death-timeout 120 --node "$dask_hpc_node"'
)
COUNTED = """\
    if [ "$#" -ne 2 ]; then
        echo "dask-hpc: this job was given $# nodes, not 2: $*"
        exit 78
    fi
"""
SLOTS = """\
    awk '{ slots[$1] += $2 } END { for (host in slots) if (slots[host] < 4) {
        print "dask-hpc: this job was given " slots[host] " slots on " host ", not 4"
        exit 78
    } }' "$PE_HOSTFILE" || exit
"""
ON_EACH_HOST = """\
    dask_hpc_node=0
    dask_hpc_pids=
    for dask_hpc_host in "$@"; do
        (
            {line} --on-node "$dask_hpc_job" "$dask_hpc_node" </dev/null && exit
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
    exit "$dask_hpc_worst"
"""
ON_NODE = f"""\
exec >>/d/logs/"$dask_hpc_job.$dask_hpc_node".log 2>&1
export GREETING='a b'
cd /d 2>/dev/null || :
exec {WORKER}
"""
SHORT_NAME = "$(uname -n | sed 's/[.].*//; s/[^A-Za-z0-9_]/_/g')"


def body(text: str) -> str:
    """A script without its directives."""
    return text.partition("\n\n")[2]


def test_slurm_starts_it_with_srun() -> None:
    """One task for each node with all its cores; none that ends or fails takes another along."""
    assert script("slurm") == (
        """\
#!/usr/bin/env bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --no-kill

if [ "${1-}" != --on-node ]; then
    trap : TERM USR1 USR2
    dask_hpc_job="${SLURM_JOB_NAME}-${SLURM_ARRAY_TASK_ID}"
    srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-4}"\
 --cpu-bind=none --export=ALL --input=none --kill-on-bad-exit=0 --no-kill --wait=0 --mpi=none\
 /usr/bin/env bash /d/job.sh --on-node "$dask_hpc_job"
    exit
fi
dask_hpc_job=$2
dask_hpc_node=$SLURM_NODEID
"""
        + ON_NODE
    )


@pytest.mark.parametrize(("batch", "pbsdsh"), [("pbs", "pbsdsh --"), ("torque", "pbsdsh -u --")])
def test_pbs_and_torque_start_it_with_pbsdsh(batch: str, pbsdsh: str) -> None:
    """Which tells no number that counts hosts: the short name of the host tells them apart."""
    prefix = driver(batch).worker_prefix
    assert (
        body(script(batch))
        == f"""\
if [ "${{1-}}" != --on-node ]; then
    exec >>/d/logs/"{prefix}".log 2>&1
    trap : TERM USR1 USR2
    dask_hpc_job="{prefix}"
    set -- $(sort -u "$PBS_NODEFILE")
    if [ "$#" -ne 2 ]; then
        echo "dask-hpc: this job was given $# nodes, not 2: $*"
        exit 78
    fi
    {pbsdsh} /usr/bin/env bash /d/job.sh --on-node "$dask_hpc_job"
    exit
fi
dask_hpc_job=$2
dask_hpc_node={SHORT_NAME}
"""
        + ON_NODE
    )


@pytest.mark.parametrize(
    ("batch", "hosts", "line"),
    [
        (
            "sge",
            "awk '!seen[$1]++ { print $1 }' \"$PE_HOSTFILE\"",
            "qrsh -inherit -nostdin \"$dask_hpc_host\" '/usr/bin/env bash /d/job.sh'",
        ),
        (
            "oar",
            'sort -u "$OAR_NODEFILE"',
            "oarsh -n -o ServerAliveInterval=30 \"$dask_hpc_host\" '/usr/bin/env bash /d/job.sh'",
        ),
        (
            "lsf",
            "echo \"$LSB_MCPU_HOSTS\" | awk '{ for (i = 1; i < NF; i += 2) print $i }'",
            'blaunch -n "$dask_hpc_host" /usr/bin/env bash /d/job.sh',
        ),
        (
            "openlava",
            "echo \"$LSB_MCPU_HOSTS\" | awk '{ for (i = 1; i < NF; i += 2) print $i }'",
            'blaunch -n "$dask_hpc_host" /usr/bin/env bash /d/job.sh',
        ),
    ],
)
def test_grid_engine_oar_and_lsf_start_it_on_host_after_host(
    batch: str, hosts: str, line: str
) -> None:
    """Each by a command of its own, which the death of another node does not reach."""
    prefix = driver(batch).worker_prefix
    log = "" if batch == "sge" else f'    exec >>/d/logs/"{prefix}".log 2>&1\n'
    assert (
        body(script(batch))
        == f"""\
if [ "${{1-}}" != --on-node ]; then
{log}    trap : TERM USR1 USR2
    dask_hpc_job="{prefix}"
    set -- $({hosts})
"""
        + COUNTED
        + (SLOTS if batch == "sge" else "")
        + ON_EACH_HOST.format(line=line)
        + """\
fi
dask_hpc_job=$2
dask_hpc_node=$3
"""
        + ON_NODE
    )


def test_flux_starts_it_on_each_node_by_itself() -> None:
    """Each has its number, and a log of its own."""
    assert (
        body(script("flux"))
        == """\
dask_hpc_job="${DASK_HPC_JOB}-${FLUX_JOB_CC}"
dask_hpc_node=$FLUX_TASK_RANK
"""
        + ON_NODE
    )


@pytest.mark.parametrize("batch", ["slurm", "pbs", "torque", "sge", "lsf", "oar", "flux", "drmaa"])
def test_a_job_of_one_node_is_as_it_was(batch: str) -> None:
    """No launcher, no node in its workers' names."""
    text = script(batch, nodes=1, cores=1, launcher="mpiexec")
    prefix = driver(batch).worker_prefix
    assert text.endswith(
        f'exec /py -m dask_hpc worker --scheduler-file /d/s.json --name "{prefix}"'
        " --nworkers 1 --nthreads 1 --death-timeout 120\n"
    )
    assert "on-node" not in text


@pytest.mark.parametrize(
    ("launcher", "line"),
    [
        ("mpiexec", "mpiexec -n 2 -ppn 1"),
        ("mpirun", "mpirun -n 2 --map-by ppr:1:node --bind-to none"),
        ("my${X}run -n {nodes} -c {cores}", "my${X}run -n 2 -c 4"),
    ],
)
def test_another_launcher_is_named_or_written(launcher: str, line: str) -> None:
    """Such launchers end all nodes when one fails: they never see it."""
    text = script("drmaa", launcher=launcher, native_specification="-pe mpi {slots}")
    wrapped = "sh -c '\"$@\" || :' sh /usr/bin/env bash /d/job.sh"
    assert f'    {line} {wrapped} --on-node "$dask_hpc_job"\n    exit\n' in text
    assert f"dask_hpc_node={SHORT_NAME}\n" in text


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        ("htcondor", {}, "a job of htcondor has one node, not 2"),
        ("local", {}, "a job of local has one node, not 2"),
        ("drmaa", {}, "nothing says how drmaa starts a command on each node"),
        ("drmaa", {"launcher": "ssh"}, "drmaa does not tell a job's hosts"),
        ("flux", {"launcher": "mpiexec"}, "Flux itself starts one copy on each node"),
        ("slurm", {"launcher": "srun\nrm -rf /"}, "must be one line"),
        ("slurm", {"nodes": 0}, "nodes= must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_submitted(
    batch: str, options: Mapping[str, Any], message: str
) -> None:
    """With what to do instead."""
    with pytest.raises(ConfigurationError, match=message):
        script(batch, **options)


def test_batch_systems_whose_jobs_have_one_node_say_so_themselves() -> None:
    """Whoever made the specification."""
    for batch in ("htcondor", "local"):
        with pytest.raises(ConfigurationError, match="has one node, not 2"):
            driver(batch).directives(JobSpec(command=(), cores=1, log_directory=Path(), nodes=2))


# -- what it does ---------------------------------------------------------------------------------

HOSTS = ("big-01.cluster", "big-02.cluster")
#: What each system tells the script.
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "slurm": {"SLURM_JOB_NAME": "mine-7f", "SLURM_ARRAY_TASK_ID": "3"},
    "pbs": {"PBS_JOBNAME": "mine-7f", "PBS_ARRAY_INDEX": "3"},
    "torque": {"PBS_JOBNAME": "mine-7f-3", "PBS_ARRAYID": "3"},
    "sge": {"JOB_NAME": "mine-7f", "SGE_TASK_ID": "3"},
    "oar": {"OAR_JOB_NAME": "mine-7f", "OAR_ARRAY_INDEX": "3"},
    "lsf": {
        "LSB_JOBNAME": "mine-7f[3]",
        "LSB_JOBINDEX": "3",
        "LSB_MCPU_HOSTS": "big-01.cluster 4 big-02.cluster 4 ",
    },
}
#: What the nodes are called by each launcher.
NUMBERED, NAMED = ("0", "1"), ("big_01", "big_02")
LABELS = {batch: NAMED if "pbsdsh" in BY_BATCH[batch] else NUMBERED for batch in VARIABLES}

# A fake node has nothing of the job's environment, but a name.
_ALL = """\
while [ "$1" != /usr/bin/env ]; do shift; done
n=0
for host in {hosts}; do
    env -i PATH={bin}:/usr/bin:/bin HOST=$host SLURM_NODEID=$n "$@" & n=$((n + 1))
done
wait
"""
_ONE = """\
while [ "$1" != "${{1#-}}" ]; do case $1 in -o) shift;; esac; shift; done
host=$1
shift
exec env -i PATH={bin}:/usr/bin:/bin HOST=$host RUN
"""
LAUNCH = {
    "srun": _ALL,
    "pbsdsh": _ALL,
    "blaunch": _ONE.replace("RUN", '"$@"'),
    "qrsh": _ONE.replace("RUN", 'sh -c "$*"'),
    "oarsh": _ONE.replace("RUN", 'sh -c "$*"'),
}


class Allocation:
    """Two nodes, and the programs that start something on them."""

    def __init__(self, batch: str, place: Path, cluster: str = "cluster") -> None:
        self.batch = batch
        self.directory = place / cluster
        self.bin = place / "bin"
        self.nodes = place / "nodefile"
        self.bin.mkdir()
        (self.directory / "logs").mkdir(parents=True)
        for name, text in LAUNCH.items():
            self.program(name, text.format(bin=self.bin, hosts=" ".join(HOSTS)))
        self.program("uname", "echo $HOST")
        self.program("worker", 'echo "$HOST $PWD $GREETING $SEEN $*"')
        self.given(HOSTS)
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            **dict.fromkeys(("PE_HOSTFILE", "OAR_NODEFILE", "PBS_NODEFILE"), str(self.nodes)),
            **VARIABLES[batch],
        }

    def given(self, hosts: Sequence[str]) -> None:
        """Have so many hosts, two cores or two queues of each."""
        lines = (f"{host} 2 all.q@{host} <NULL>" if self.batch == "sge" else host for host in hosts)
        self.nodes.write_text("".join(f"{line}\n" * 2 for line in lines))

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self, **options: Any) -> subprocess.Popen[str]:
        text = script(self.batch, self.directory, python="worker", **options)
        job = self.directory / "job.sh"
        job.write_text(text)
        # A batch system gives the job a copy: the path that the nodes know is the original's.
        copy = self.directory / "spooled"
        copy.write_text(text)
        return subprocess.Popen(
            ["bash", copy],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **options: Any) -> tuple[int, str]:
        """Exit status of the job, and all that it says itself."""
        process = self.start(**options)
        said, _ = process.communicate(timeout=20)
        log = self.directory / "logs" / "mine-7f-3.log"
        return process.returncode, said + (log.read_text() if log.exists() else "")

    def logs(self) -> dict[str, str]:
        return {
            path.name: path.read_text()
            for path in sorted((self.directory / "logs").glob("mine-7f-3.*.log"))
        }


@pytest.mark.parametrize("batch", VARIABLES)
def test_each_node_runs_the_whole_script(batch: str, tmp_path: Path) -> None:
    """Exports, directory and prologue on each; its workers and its log are named after it."""
    job = Allocation(batch, tmp_path)
    assert job.run(job_script_prologue=["export SEEN=prologue"]) == (0, "")
    logs = job.logs()
    assert list(logs) == [f"mine-7f-3.{label}.log" for label in LABELS[batch]]
    for host, label in zip(HOSTS, LABELS[batch], strict=True):
        said = logs[f"mine-7f-3.{label}.log"]
        assert said.startswith(f"{host} {job.directory} a b prologue -m dask_hpc worker")
        assert "--name mine-7f-3 " in said
        assert said.endswith(f" --node {label}\n")


@pytest.mark.parametrize("batch", ["slurm", "oar", "sge"])
def test_the_script_may_lie_anywhere(batch: str, tmp_path: Path) -> None:
    """Blanks, quotes and dollars in its path: also where a shell on the node reads it again."""
    job = Allocation(batch, tmp_path, "it's 100% $x")
    assert job.run() == (0, "")
    assert len(job.logs()) == 2


@pytest.mark.parametrize("batch", ["sge", "oar", "lsf"])
def test_a_node_that_fails_leaves_the_others_alone(batch: str, tmp_path: Path) -> None:
    """The job ends when all have ended, says which failed, and keeps the worst exit status."""
    job = Allocation(batch, tmp_path)
    go = tmp_path / "go"
    os.mkfifo(go)
    job.program(
        "worker", f'case $HOST in *01*) echo go >{go}; exit 70;; esac; read x <{go}; echo "on $x"'
    )
    status, said = job.run()
    assert (status, said) == (70, "dask-hpc: node 0 (big-01.cluster): exit status 70\n")
    assert job.logs()["mine-7f-3.1.log"] == "on go\n"


@pytest.mark.parametrize("batch", ["pbs", "sge", "oar"])
def test_fewer_nodes_than_asked_for_are_named(batch: str, tmp_path: Path) -> None:
    """A parallel environment that fills one host: the other half of the workers never comes."""
    job = Allocation(batch, tmp_path)
    job.given(HOSTS[:1])
    said = "dask-hpc: this job was given 1 nodes, not 2: big-01.cluster"
    status, words = job.run()
    assert status == 78
    assert words.startswith(said)
    assert job.logs() == {}


def test_hosts_of_unequal_size_are_named(tmp_path: Path) -> None:
    """A parallel environment that goes round: five slots on one host and three on the other."""
    job = Allocation("sge", tmp_path)
    job.nodes.write_text("big-01 4 all.q@big-01\nbig-01 1 b.q@big-01\nbig-02 3 all.q@big-02\n")
    assert job.run() == (78, "dask-hpc: this job was given 3 slots on big-02, not 4\n")
    assert job.logs() == {}


@pytest.mark.parametrize("batch", ["slurm", "sge"])
def test_a_signal_to_the_script_waits_for_the_nodes(batch: str, tmp_path: Path) -> None:
    """The nodes are told by the batch system; the script is the last to go."""
    job = Allocation(batch, tmp_path)
    ready, go = tmp_path / "ready", tmp_path / "go"
    for path in (ready, go):
        os.mkfifo(path)
    job.program("worker", f"echo up >{ready}; read x <{go}; exit 3")
    with ready.open("rb+", buffering=0) as up, go.open("rb+", buffering=0) as end:
        process = job.start()
        assert [up.read(3), up.read(3)] == [b"up\n", b"up\n"]
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        end.write(b"now\n" * 2)
        process.communicate(timeout=20)
    assert process.returncode == (0 if batch == "slurm" else 3)  # as the fake srun ends


def test_an_mpi_launcher_never_sees_a_failure(tmp_path: Path) -> None:
    """It would end the other nodes."""
    how = launch("drmaa", nodes=2, cores=1, script=["sh", "-c", "exit 3", "x"], launcher="env")
    done = subprocess.run(["sh", "-c", how.lines[0]], check=False)
    assert done.returncode == 0
