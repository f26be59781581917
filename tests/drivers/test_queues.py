"""Queue limits are read from what the real commands printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.drivers.base import Output
from dask_hpc.drivers.queues import reader
from dask_hpc.drivers.queues.words import memory, seconds
from dask_hpc.model.queue import Queue
from tests.drivers.replay import load

GIB, MIB = 1 << 30, 1 << 20


def read(batch: str, transcript: str, *, exact: bool = True) -> dict[str, Queue]:
    """What the reader of a batch system makes of a recording of its commands."""
    found = reader(batch)
    assert found is not None
    recorded = load(transcript)
    outputs = [recorded.replay(c) for c in found.COMMANDS] if exact else list(recorded.outputs)
    return {queue.name: queue for queue in found.read(outputs)}


def test_slurm_tells_its_partitions() -> None:
    """Limits, sizes, states, groups; the default has an asterisk."""
    queues = read("slurm", "slurm/22.05.8/queues")
    assert queues["main"] == Queue(
        name="main",
        max_walltime=86400,
        default_walltime=600,
        nodes=4,
        cores=16,
        memory=16000 * MIB,
        gpus=2,
        default=True,
    )
    assert queues["short"].max_walltime == 300
    assert queues["spot"].max_walltime is None
    assert queues["closed"].takes_jobs
    assert not queues["closed"].starts_jobs
    assert queues["bobonly"].groups == ("bob",)


def test_nodes_of_several_kinds_are_one_partition() -> None:
    """The largest node counts, and all of them."""
    found = reader("slurm")
    assert found is not None
    text = (
        "gpu|up|infinite|1:00:00|2|64|512000|gpu:a100:4(S:0-1)|1-2|all\n"
        "gpu|up|infinite|1:00:00|6|128|1024000|(null)|1-2|all\n"
        "Welcome to our cluster!\n"
    )
    assert found.read([Output(found.COMMANDS[0], 0, text)]) == [
        Queue(
            name="gpu",
            default_walltime=3600,
            nodes=8,
            cores=128,
            memory=1024000 * MIB,
            gpus=4,
            max_nodes=2,
        )
    ]


def test_pbs_tells_its_queues() -> None:
    """A queue that takes no jobs, one that starts none, one with limits."""
    queues = read("pbs", "openpbs/23.06.06/queues")
    assert queues["workq"] == Queue(name="workq", nodes=3, cores=4, memory=8 * GIB, gpus=2)
    assert queues["short"].max_walltime == 600
    assert queues["short"].max_cores == 4
    assert not queues["closed"].takes_jobs
    assert not queues["stopped"].starts_jobs


def test_torque_tells_its_queues_in_text() -> None:
    """The default walltime too."""
    queues = read("torque", "torque/master-34ff845/queues")
    assert queues["batch"] == Queue(
        name="batch", default_walltime=3600, nodes=2, cores=4, memory=24684084 << 10, gpus=0
    )
    assert queues["short"].max_nodes == 2
    assert queues["short"].max_walltime == 600
    assert not queues["closed"].takes_jobs
    assert not queues["stopped"].starts_jobs


def test_grid_engine_tells_its_queues() -> None:
    """The soft limit counts where it comes first; a disabled queue starts nothing."""
    queues = read("sge", "sge/8.1.9/queues")
    assert queues["all.q"].max_walltime is None
    assert queues["all.q"].nodes == 4
    assert queues["all.q"].cores == 16
    assert (queues["all.q"].memory or 0) > 8 * GIB
    assert queues["short.q"].max_walltime == 50
    assert queues["all.q"].yours
    assert not queues["bob.q"].yours
    assert queues["all.q"].starts_jobs
    assert not queues["closed.q"].starts_jobs


def test_a_queue_of_grid_engine_that_is_disabled_on_some_hosts_starts_jobs() -> None:
    """On the others."""
    found = reader("sge")
    assert found is not None
    row = "a.q@node0{}  BIP  0/0/8  0.1  lx-amd64  {}\n\tqf:h_rt=01:00:00\n"
    outputs = [Output(found.COMMANDS[0], 0, row.format(1, "d") + row.format(2, ""))]
    assert found.read(outputs) == [Queue(name="a.q", max_walltime=3600, nodes=2, cores=8)]


def test_lsf_tells_its_queues() -> None:
    """Minutes under their heading; slots of a job."""
    queues = read("openlava", "openlava/4.0.0/queues", exact=False)
    assert queues["short"] == Queue(
        name="short", max_walltime=600, nodes=3, cores=2, memory=24105 * MIB, max_cores=4
    )


@pytest.mark.parametrize("turned", [False, True])
def test_default_limits_of_lsf_are_no_maximum(turned: bool) -> None:
    """As IBM's reference of bqueues -l heads them; their order is not relied on."""
    found = reader("lsf")
    assert found is not None
    parts = ["DEFAULT LIMITS:\n RUNLIMIT\n 60.0 min\n", "MAXIMUM LIMITS:\n RUNLIMIT\n 600.0 min\n"]
    status = "PRIO NICE STATUS\n 30  20  Closed:Inact_Adm  -  -\n"
    text = "QUEUE: night\n" + status + "\n".join(parts[::-1] if turned else parts)
    assert found.read([Output(found.COMMANDS[0], 0, text)]) == [
        Queue(
            name="night",
            max_walltime=36000,
            default_walltime=3600,
            takes_jobs=False,
            starts_jobs=False,
        )
    ]


def test_flux_tells_its_queues() -> None:
    """Coloured marks are read without their colours."""
    queues = read("flux", "flux/0.88.0/queues")
    assert queues["short"] == Queue(
        name="short", max_walltime=600, nodes=3, cores=4, gpus=0, max_nodes=3, max_cores=4
    )
    assert queues["batch"].default
    assert queues["batch"].max_walltime is None


def test_oar_counts_its_cores() -> None:
    """Resources are cores: those of one host are counted."""
    assert read("oar", "oar/2.5.9/queues") == {
        "default": Queue(name="default", nodes=4, cores=16, memory=16000 * MIB, default=True)
    }
    found = reader("oar")
    assert found is not None
    row = '"{}" : {{"state": "{}", "host": "node0{}", "mem": 16000}}'
    rows = [row.format(k, "Dead" if k == 5 else "Alive", k % 2) for k in range(1, 6)]
    text = f"[ADMISSION RULE] hello\n{{{', '.join(rows)}}}\n"
    assert found.read([Output(found.COMMANDS[0], 0, text)]) == [
        Queue(name="default", nodes=2, cores=2, memory=16000 * MIB, default=True)
    ]


def test_htcondor_has_one_queue_without_a_name() -> None:
    """Its machines are what there is."""
    assert read("htcondor", "htcondor/23.9.6/queues") == {
        "": Queue(name="", nodes=4, cores=16, memory=16000 * MIB, gpus=0, default=True)
    }
    found = reader("htcondor")
    assert found is not None
    text = "node01\t16\t16000\tundefined\nnode01\t16\t16000\tundefined\nnode02\t8\t8000\t2\n"
    assert found.read([Output(found.COMMANDS[0], 0, text)]) == [
        Queue(name="", nodes=2, cores=16, memory=16000 * MIB, gpus=2, default=True)
    ]


@pytest.mark.parametrize("batch", ["local", "drmaa", "somebody's own"])
def test_without_a_reader_there_is_nothing_to_ask(batch: str) -> None:
    """No command is made up."""
    assert reader(batch) is None


@pytest.mark.parametrize(
    "batch", ["slurm", "pbs", "torque", "sge", "lsf", "openlava", "oar", "htcondor", "flux"]
)
@given(text=st.text(alphabet=st.sampled_from('Queue: =q1|\n\t{}"infte.*0-:[]x✔'), max_size=200))
def test_no_text_upsets_a_reader(batch: str, text: str) -> None:
    """A wrapper may print anything; what is not understood is left out."""
    found = reader(batch)
    assert found is not None
    found.read([Output(command, 0, text) for command in found.COMMANDS])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1-00:00:00", 86400), ("5:00", 300), ("0:1:0", 60), ("1-12", 129600), ("infinite", None)],
)
def test_clocks_are_read(text: str, expected: int | None) -> None:
    """Words are no limit."""
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("8gb", 8 * GIB), ("23.5G", round(23.5 * GIB)), ("-", None), ("7", 7)]
)
def test_amounts_are_read(text: str, expected: int | None) -> None:
    """Batch systems count in 1024s."""
    assert memory(text) == expected
