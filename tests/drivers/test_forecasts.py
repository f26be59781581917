"""Forecasts: what is asked, and how it is read from what the real commands printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Forecaster, Question, forecaster
from dask_hpc.drivers.forecasts.rooms import Room, fitting
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.slurm_words import instant
from dask_hpc.model.forecast import Forecast, Start, starts
from dask_hpc.model.job import JobSpec
from tests.drivers.replay import Transcript, load

GIB = 1 << 30
SYSTEMS = [
    *("slurm", "pbs", "torque", "sge", "lsf", "openlava", "oar", "htcondor", "flux", "local"),
]


def question(batch: str, jobs: int = 1, **asked: Any) -> Question:
    spec = JobSpec(command=("true",), log_directory=Path("/l"), **{"cores": 4, **asked})
    return Question(driver(batch), spec, jobs)


def reader(batch: str) -> Forecaster:
    found = forecaster(batch)
    assert found is not None
    return found


def conversation(
    asked: Question, recorded: Transcript, *, now: float = 0.0, nth: int = 0
) -> tuple[list[Command], Forecast]:
    """Ask as the edge does, and have the recording answer."""
    found, heard = reader(asked.driver.name), list[Output]()
    while (command := found.ask(asked, heard, now)) is not None:
        heard.append(recorded.replay(command, nth))
    return [each.command for each in heard], found.read(asked, heard, now)


# -- Slurm ----------------------------------------------------------------------------------------

SLURM = load("slurm/22.05.8/forecast")
#: When each of the two halves was recorded: Slurm answers in its own local time.
IDLE = instant("2026-11-23T07:25:00") or 0.0
BUSY = instant("2026-11-23T07:25:06") or 0.0
HALF_HOUR = {"memory": 4 * GIB, "walltime": 1800}


def slurm(jobs: int, *, now: float = BUSY, nth: int = -1, **asked: Any) -> Forecast:
    return conversation(question("slurm", jobs, **asked), SLURM, now=now, nth=nth)[1]


def test_slurm_is_asked_once_where_all_jobs_start_now() -> None:
    """As one job with a task for each."""
    asked = question("slurm", 6, **HALF_HOUR)
    commands, forecast = conversation(asked, SLURM, now=IDLE)
    assert [each.argv for each in commands] == [
        (
            *("sbatch", "--test-only", "--ntasks=6", "--cpus-per-task=4"),
            *("--mem-per-cpu=1024M", "--time=00:30:00", "--wrap=true"),
        )
    ]
    assert forecast == Forecast(starts=(Start(6, 0.0),), said="sbatch --test-only")


def test_slurm_tells_when_the_first_and_the_last_would_start() -> None:
    """One fits into node04's 8 CPUs and 7.6 GiB that are free; all six could run in 40 minutes."""
    assert slurm(6, **HALF_HOUR) == Forecast(
        starts=(Start(1, 0.0), Start(5, 2395.0)), said="sbatch --test-only"
    )
    assert slurm(2, **HALF_HOUR).starts == (Start(1, 0.0), Start(1, 1795.0))


def test_slurm_tells_of_a_job_alone() -> None:
    """A whole node is free when the first job reaches its walltime, in half an hour."""
    assert slurm(1, cores=16, memory=8 * GIB, walltime=1800).starts == (Start(1, 1795.0),)
    assert slurm(1, memory=12 * GIB, walltime=1800).starts == (Start(1, 1795.0),)


def test_where_all_together_never_fit_only_the_first_ones_are_known() -> None:
    """40 jobs of 4 cores on 64 CPUs: Slurm refuses the question, not the jobs."""
    forecast = slurm(40, **HALF_HOUR)
    assert forecast.starts == (Start(1, 0.0),)
    assert not forecast.refused


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cores": 17, "walltime": 3600}, "node configuration is not available"),
        ({"memory": 900 * GIB}, "node configuration is not available"),
        ({"walltime": 1800, "queue": "nosuch"}, "invalid partition specified: nosuch"),
        ({"walltime": 1800, "queue": "bobonly"}, "group not permitted"),
    ],
)
def test_what_slurm_refuses_is_refused_in_its_words(asked: dict[str, Any], words: str) -> None:
    """The same words as of a submission."""
    recorded = Transcript(
        tuple(
            Output(Command(tuple(w.replace("900G", "921600M") for w in o.command.argv)), *_ends(o))
            for o in SLURM.outputs
        )
    )
    found = conversation(question("slurm", 1, **asked), recorded, now=BUSY)[1]
    assert words in found.refused
    assert not found.starts


def _ends(output: Output) -> tuple[int, str, str]:
    return output.returncode, output.stdout, output.stderr


def test_jobs_of_several_nodes_are_asked_for_by_their_nodes() -> None:
    """And a memory that the user wrote for a node is not divided."""
    command = reader("slurm").ask(question("slurm", 3, nodes=2, memory=GIB, gpus=1), [], 0)
    assert command is not None
    assert command.argv[2:] == (
        *("--nodes=6", "--ntasks-per-node=1", "--cpus-per-task=4", "--no-kill"),
        *("--mem=1024M", "--gres=gpu:1", "--wrap=true"),
    )
    command = reader("slurm").ask(question("slurm", 3, gpus=2), [], 0)
    assert command is not None
    assert command.argv[2:] == (
        *("--ntasks=3", "--cpus-per-task=4", "--gpus-per-task=2", "--wrap=true"),
    )
    command = reader("slurm").ask(question("slurm", 3, options={"job_mem": "0"}), [], 0)
    assert command is not None
    assert command.argv[2:] == (
        *("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=4", "--mem=0", "--wrap=true"),
    )


def test_slurm_that_does_not_answer_refuses_nothing() -> None:
    """The controller is down: nothing is known."""
    down = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"
    asked = question("slurm")
    command = reader("slurm").ask(asked, [], 0)
    assert command is not None
    found = reader("slurm").read(asked, [Output(command, 1, "", down)], 0)
    assert found == Forecast(said=f"sbatch failed: {down}")


WAITING = load("slurm/22.05.8/forecast-waiting")
THEN = instant("2026-11-23T07:55:32") or 0.0


def test_slurm_squeezes_short_jobs_in_before_what_is_planned() -> None:
    """A job for all nodes waits until 08:55: 8 cores are free until then; told is 09:35."""
    asked = question("slurm", 6, memory=GIB, walltime=1200)
    commands, forecast = conversation(asked, WAITING, now=THEN)
    assert [each.argv[0] for each in commands] == ["sbatch", "sbatch", "sinfo", "squeue"]
    assert forecast == Forecast(
        starts=(Start(2, 0.0), Start(4, 7790.0)), said="free cores, before what is planned"
    )


def test_a_job_that_would_be_in_the_way_is_not_squeezed_in() -> None:
    """Two hours are not over by 08:55."""
    found = conversation(question("slurm", memory=GIB, walltime=7200), WAITING, now=THEN)[1]
    assert found == Forecast(starts=(Start(1, 6000.0),), said="sbatch --test-only")


@pytest.mark.parametrize(
    ("planned", "first"),
    [
        ("main|2026-11-23T08:55:22\nmain|2026-11-23T08:10:00\n", 6000.0),  # the first counts
        ("short|2026-11-23T08:00:00\n", 6000.0),  # another partition of the same nodes
        ("other,short|2026-11-23T08:00:00\nmain|2026-11-23T09:00:00\n", 6000.0),
        ("other|2026-11-23T08:00:00\nmain|2026-11-23T09:00:00\n", 0.0),  # of other nodes
        ("main|N/A\n", 6000.0),  # nothing is planned: it is something else that ours waits for
        ("", 6000.0),
    ],
)
def test_who_is_planned_on_the_same_nodes_comes_first(planned: str, first: float) -> None:
    """Whatever its partition is called."""
    recorded = Transcript(
        tuple(
            Output(o.command, 0, planned) if "--format=%P|%S" in o.command.argv else o
            for o in WAITING.outputs
        )
    )
    found = conversation(question("slurm", memory=GIB, walltime=1200), recorded, now=THEN)[1]
    assert found.first == first


def test_free_cores_say_nothing_of_gpus_and_of_directives() -> None:
    """A constraint of the user's may be what it waits for; without a walltime nobody knows."""
    for asked in ({"gpus": 1, "walltime": 60}, {"directives": ("-C x",), "walltime": 60}, {}):
        about, found = question("slurm", **asked), reader("slurm")
        command = found.ask(about, [], THEN)
        assert command is not None
        late = Output(command, 0, "", WAITING.all("sbatch")[1].stderr)
        assert found.ask(about, [late], THEN) is None
    about = question("slurm", 3, gpus=1)  # how many would start with the first is not told
    waits, alone = WAITING.all("sbatch")[:2]
    soon = Output(alone.command, 0, "", alone.stderr.replace("09:35", "07:55"))
    assert found.ask(about, [waits, soon], THEN) is None
    assert found.read(about, [waits, soon], THEN).starts == (Start(1, 0.0), Start(2, 7790.0))


# -- Grid Engine ----------------------------------------------------------------------------------

SGE = load("sge/8.1.9/forecast")
HALF = {"walltime": 1800}


def test_grid_engine_tells_how_many_start_now() -> None:
    """64 slots are free, and later 8: a dry run, and the free slots of each host."""
    commands, forecast = conversation(question("sge", 20, **HALF), SGE)
    assert [each.argv[:3] for each in commands] == [
        ("qsub", "-w", "p"),
        ("qstat", "-F", "slots,h_rt,s_rt"),
    ]
    assert forecast == Forecast(starts=(Start(16, 0.0),), said="qsub -w p, free slots")
    assert conversation(question("sge", 20, **HALF), SGE, nth=-1)[1].starts == (Start(2, 0.0),)
    assert conversation(question("sge", 1, queue="all.q", **HALF), SGE, nth=-1)[1].starts == (
        Start(1, 0.0),
    )


def test_grid_engine_does_not_tell_when_others_would_start() -> None:
    """That it can at all is asked too."""
    commands, forecast = conversation(question("sge", cores=16, queue="all.q", **HALF), SGE, nth=-1)
    assert [each.argv[2] for each in commands] == ["p", "v"]
    assert forecast == Forecast(said="qsub -w p: not now")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cores": 17, "queue": "all.q"}, 'cannot run in PE "smp"'),
        ({"cores": 1, "queue": "short.q"}, "cannot run"),
        ({"cores": 1, "queue": "nosuch"}, "nosuch"),
    ],
)
def test_what_grid_engine_can_never_run_is_refused(asked: dict[str, Any], words: str) -> None:
    """By its dry run on an empty cluster."""
    found = conversation(question("sge", **HALF, **asked), SGE, nth=-1)[1]
    assert words in found.refused
    assert not found.starts


CONDOR = load("htcondor/23.9.6/forecast")

# -- systems that tell no more than what is free --------------------------------------------------


def answered(batch: str, text: str, jobs: int = 100, now: float = 0, **asked: Any) -> Forecast:
    about = question(batch, jobs, **asked)
    command = reader(batch).ask(about, [], now)
    assert command is not None
    output = Output(command, 0, text)
    assert reader(batch).ask(about, [output], now) is None
    return reader(batch).read(about, [output], now)


def test_pbs_tells_what_is_free() -> None:
    """Three nodes of 4 cores and 8 GB; a job that would not fit on any starts at no known time."""
    text = load("openpbs/23.06.06/queues").replay(Command(("pbsnodes", "-a", "-F", "json"))).stdout
    assert answered("pbs", text).starts == (Start(3, 0.0),)
    assert answered("pbs", text, cores=1, memory=4 * GIB).starts == (Start(6, 0.0),)
    assert answered("pbs", text, cores=1, gpus=1).starts == (Start(2, 0.0),)
    assert answered("pbs", text, cores=2, nodes=2).starts == (Start(1, 0.0),)
    assert answered("pbs", text, cores=5) == Forecast(said="free cores, by pbsnodes")


def test_pbs_subtracts_what_is_taken() -> None:
    """Names as in pbs_node_attributes(7B)."""
    text = load("openpbs/23.06.06/queues").replay(Command(("pbsnodes", "-a", "-F", "json"))).stdout
    assigned = '"resources_assigned": {"ncpus": 3, "mem": "6291456kb"'
    busy = text.replace('"resources_assigned":\t{', assigned)
    assert answered("pbs", busy, cores=1).starts == (Start(3, 0.0),)
    assert answered("pbs", busy, cores=1, memory=4 * GIB).starts == ()
    offline = text.replace('"state":\t"free"', '"state":\t"offline"')
    assert answered("pbs", offline, cores=1).starts == ()


def test_torque_tells_what_is_free() -> None:
    """Two nodes of 4 slots; a taken slot is named with its job (pbsnodes(8B))."""
    text = load("torque/master-34ff845/queues").replay(Command(("pbsnodes", "-a"))).stdout
    assert answered("torque", text).starts == (Start(2, 0.0),)
    assert answered("torque", text, cores=1).starts == (Start(8, 0.0),)
    for taken in ("0/12.tq, 1/12.tq, 2/13.tq", "0-1/12.tq,2/13.tq"):
        busy = text.replace("     np = 4", f"     np = 4\n     jobs = {taken}")
        assert answered("torque", busy, cores=1).starts == (Start(2, 0.0),)


def test_lsf_tells_what_is_free() -> None:
    """OpenLava's hosts of 2, 4 and 4 slots, as they were recorded: three of the last are taken."""
    text = (
        "HOST_NAME          STATUS       JL/U    MAX  NJOBS    RUN  SSUSP  USUSP    RSV \n"
        "olhead             closed          -      2      2      2      0      0      0\n"
        "oln1               closed          -      4      4      4      0      0      0\n"
        "oln2               ok              -      4      3      3      0      0      0\n"
    )
    for batch in ("lsf", "openlava"):
        assert answered(batch, text, cores=1).starts == (Start(1, 0.0),)
        assert answered(batch, text, cores=2).starts == ()


def test_flux_tells_what_is_free() -> None:
    """12 cores of three nodes, in two queues."""
    text = load("flux/0.88.0/queues").replay(Command(("flux", "resource", "list"))).stdout
    assert answered("flux", text, cores=4).starts == (Start(3, 0.0),)
    assert answered("flux", text, cores=1, queue="short").starts == (Start(12, 0.0),)
    assert answered("flux", text, cores=1, queue="other").starts == ()
    assert answered("flux", text, cores=4, nodes=2).starts == (Start(1, 0.0),)


def test_htcondor_tells_what_is_free() -> None:
    """What partitionable slots have left; a static slot runs one job."""
    idle, busy = (output.stdout for output in CONDOR.all("condor_status")[:2])
    assert answered("htcondor", idle).starts == (Start(16, 0.0),)
    assert answered("htcondor", idle, memory=8 * GIB).starts == (Start(4, 0.0),)
    assert answered("htcondor", busy).starts == (Start(2, 0.0),)
    assert answered("htcondor", busy, cores=16) == Forecast(said="free cores, by condor_status")
    static = "n1\tStatic\tUnclaimed\t8\t8000\t0\nn2\tStatic\tClaimed\t8\t8000\t0\n"
    assert answered("htcondor", static, cores=2).starts == (Start(1, 0.0),)


def test_htcondor_is_asked_as_it_was_recorded() -> None:
    """Since 23.9 other words give other attributes."""
    command = reader("htcondor").ask(question("htcondor"), [], 0)
    assert command == CONDOR.all("condor_status")[0].command


# -- OAR ------------------------------------------------------------------------------------------

OAR = load("oar/2.5.9/forecast")
#: Seconds since the epoch; the first job of others ends 1781 s later.
OAR_NOW = float(OAR.all("date")[0].stdout)
PLAN = OAR.all("oarstat")[0].stdout


def test_oar_is_asked_for_its_plan_of_a_week() -> None:
    """From the minute on, so that all shapes are one question."""
    commands = {
        reader("oar").ask(question("oar", cores=cores), [], 90061.0 + cores) for cores in (1, 2)
    }
    [command] = commands
    assert command is not None
    assert command.argv[:3] == ("oarstat", "-J", "-g")
    assert re.fullmatch(r"(\S+ \S+:01:00), (\S+ \S+:01:00)", command.argv[3])


def test_oar_fits_jobs_into_the_gaps_of_its_plan() -> None:
    """8 cores are free until all nodes are taken; 16 more half an hour later, just long enough."""
    found = answered("oar", PLAN, 7, OAR_NOW, walltime=1800)
    assert found.said == "oarstat --gantt"
    assert found.starts == (Start(2, 0.0), Start(4, 1781.0), Start(1, 9587.0))
    assert answered("oar", PLAN, 1, OAR_NOW, walltime=7200).starts == (Start(1, 9587.0),)
    assert answered("oar", PLAN, 1, OAR_NOW, walltime=600, nodes=2).starts == (Start(1, 1781.0),)


def test_oar_says_what_it_cannot_tell() -> None:
    """No host is so large; GPUs and descriptions of one's own are not in the plan."""
    assert (
        answered("oar", PLAN, 1, OAR_NOW, cores=17).refused == "no 1 host(s) of 17 cores are alive"
    )
    for asked in ({"gpus": 1}, {"options": {"resource_spec": "/core=1"}}):
        about = question("oar", **asked)
        assert reader("oar").ask(about, [], 0) is None
        assert reader("oar").read(about, [], 0) == Forecast(said="only cores are looked at")
    dead = PLAN.replace('"Alive"', '"Dead"')
    assert answered("oar", dead).said == "oarstat --gantt did not tell its resources"


def test_oar_is_not_played_for_ever() -> None:
    """Of a hundred thousand jobs in a row only the first are told."""
    found = answered("oar", PLAN, 100_000, OAR_NOW, cores=16, walltime=3600)
    assert 0 < found.known < 100_000


def test_a_command_that_fails_tells_nothing() -> None:
    """In its own words."""
    asked = question("pbs")
    command = reader("pbs").ask(asked, [], 0)
    assert command is not None
    output = Output(command, 1, "", "pbsnodes: cannot connect to server\nmore\n")
    assert reader("pbs").read(asked, [output], 0) == Forecast(
        said="pbsnodes failed: pbsnodes: cannot connect to server"
    )


# -- the embedded batch system --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "jobs", "expected"),
    [
        ("slots|8", 2, [(2, 0)]),
        ("slots|8", 5, [(2, 0), (2, 600), (1, 1200)]),
        ("slots|8\nrunning|6|300", 2, [(2, 300)]),
        ("slots|8\nrunning|4|300", 3, [(1, 0), (1, 300), (1, 600)]),
        ("slots|8\nrunning|6|300\npending|8|100", 1, [(1, 400)]),
        ("slots|8\nrunning|6|300\npending|9|100", 1, [(1, 300)]),
    ],
)
def test_local_starts_in_order(load: str, jobs: int, expected: list[tuple[int, int]]) -> None:
    """Who is first holds back those behind it; what can never run holds back nobody."""
    found = answered("local", load, jobs, walltime=600)
    assert [(start.jobs, start.seconds) for start in found.starts] == expected


def test_local_refuses_what_it_has_no_slots_for() -> None:
    """It would wait for ever."""
    assert answered("local", "slots|2").refused == "it has 2 slots"


# -- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["drmaa", "somebody's own"])
def test_some_cannot_be_asked(batch: str) -> None:
    """No command is made up."""
    assert forecaster(batch) is None


@pytest.mark.parametrize("batch", SYSTEMS)
@given(
    texts=st.lists(
        st.text(alphabet=st.sampled_from('Job 1to start@:|\n\t{}"free/ok-.,=[]'), max_size=150),
        min_size=4,
        max_size=4,
    ),
    code=st.sampled_from([0, 1]),
)
def test_no_text_upsets_a_reader(batch: str, texts: Sequence[str], code: int) -> None:
    """A wrapper may print anything; few commands are asked whatever it says."""
    asked, found, heard = question(batch, 3), reader(batch), list[Output]()
    for text in texts:
        command = found.ask(asked, heard, 0.0)
        if command is None:
            break
        heard.append(Output(command, code, text, text))
    assert found.ask(asked, heard, 0.0) is None
    assert found.read(asked, heard, 0.0).known <= 3


@given(
    st.lists(st.builds(Room, st.integers(0, 64), st.none() | st.integers(0, 64 * GIB)), max_size=8),
    st.integers(1, 16),
    st.integers(1, 4),
)
def test_what_fits_is_there(rooms: list[Room], cores: int, nodes: int) -> None:
    """No more cores are given out than are free, and more room never holds fewer."""
    spec = question("slurm", cores=cores, nodes=nodes, memory=GIB).spec
    held = fitting(rooms, spec)
    assert held * cores * nodes <= sum(room.cores for room in rooms)
    assert fitting([*rooms, Room(16)], spec) >= held


def test_starts_are_in_order_and_none_is_in_the_past() -> None:
    """Clocks differ by a second or two."""
    assert starts((2, 60.0), (0, 5.0), (1, -2.0)) == (Start(1, 0.0), Start(2, 60.0))
