"""The script that a job's nodes run for ``connect``, literal."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_hpc.cluster.allocation_crew import script_text
from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.place import Allocation
from dask_hpc.errors import ConfigurationError

WORKERS = """\
dask_hpc_job=$2
dask_hpc_node={node}
exec >>/h/d/logs/"$dask_hpc_job-$dask_hpc_node".log 2>&1
export PATH=/usr/bin
export OMP_NUM_THREADS=1
cd {here} 2>/dev/null || :
module load x
exec python3 -m dask_hpc worker --scheduler-file /h/d/scheduler.json --name "$dask_hpc_job"\
 --nworkers 2 --nthreads 4 --interface ib0 --death-timeout 120{of_node} --job-cores 8
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH", "DASK_CONFIG", "DASK_HPC_HOME"):
        monkeypatch.delenv(name, raising=False)


def written(allocation: Allocation, **options: object) -> str:
    """The script for an allocation of nodes with 8 cores."""
    asked = {
        "cores": 64,
        "processes": 16,
        "interface": "ib0",
        "python": "python3",
        "job_script_prologue": ("module load x",),
        **options,
    }
    return script_text(
        allocation,
        ClusterOptions(**asked),
        name="d",
        directory=ClusterDirectory(Path("/h/d"), Path("/h/d/logs")),
        cores=8,
        workers=2,
        environment={"OMP_NUM_THREADS": "1"},
    )


def test_on_one_node_the_workers_are_started_at_once(tmp_path: Path) -> None:
    """Whoever forgets to say that it is for this node gets a bad exit code."""
    text = written(Allocation(batch="slurm", job="7"))
    assert text == (
        "#!/usr/bin/env bash\n"
        'if [ "${1-}" != --on-node ]; then\n'
        "    trap : TERM\n"
        "    dask_hpc_job=d\n"
        "    exit 78\n"
        "fi\n"
    ) + WORKERS.format(node="0", here=tmp_path, of_node="")


def test_on_several_nodes_the_batch_systems_launcher_starts_it_again(tmp_path: Path) -> None:
    """With what tells the nodes apart."""
    text = written(Allocation(batch="slurm", job="7", nodes=3))
    first, _, rest = text.partition("fi\n")
    assert "\nsrun --nodes=3 --ntasks=3 " in first
    assert '/usr/bin/env bash /h/d/job-default.sh --on-node "$dask_hpc_job"\n' in first
    assert rest == WORKERS.format(
        node="$SLURM_NODEID", here=tmp_path, of_node=' --node "$dask_hpc_node"'
    )


@pytest.mark.parametrize(
    ("allocation", "launcher", "words"),
    [
        (Allocation(batch="slurm", job="7", inside=False), None, "srun --nodes=1 "),
        (Allocation(batch="flux", job="f", nodes=2), None, "flux run --nodes=2 "),
        (Allocation(batch="pbs", job="1", nodes=2, listed=2), None, "pbsdsh -- "),
        (Allocation(batch="pbs", job="1", nodes=2, listed=8), None, "ssh -n "),
        (Allocation(batch="pbs", job="1", nodes=2), "mpiexec", "mpiexec -n 2 -ppn 1 "),
        (Allocation(batch="sge", job="1", nodes=2), None, "qrsh -inherit "),
    ],
)
def test_the_launcher_fits_the_allocation(
    allocation: Allocation, launcher: str | None, words: str
) -> None:
    """The batch system's own, unless its list of nodes has a line per rank, or one is named."""
    assert words in written(allocation, launcher=launcher)


def test_nodes_that_cannot_be_reached_are_an_error() -> None:
    """With the launchers that there are."""
    with pytest.raises(ConfigurationError, match="one node, not 2"):
        written(Allocation(batch="local", job="1", nodes=2))
