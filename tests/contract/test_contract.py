"""What every driver must do, through the real client and runner, on its fake system's programs.

A rule holds for all systems alike; what a system cannot tell is in its dialect's `tells`, with
the recording that shows it.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from dask_hpc.batch import detect
from dask_hpc.batch.client import BatchClient
from dask_hpc.batch.runner import run
from dask_hpc.control import reaper
from dask_hpc.control.journal import Journal, read
from dask_hpc.drivers.base import Output, log_path
from dask_hpc.drivers.registry import DRIVERS
from dask_hpc.errors import (
    BatchSystemError,
    BatchSystemUnavailable,
    ConfigurationError,
    SubmitRejected,
)
from dask_hpc.model.job import JobId, Submission
from tests.contract.site import EXEMPT, SYSTEMS, Site, expected, words
from tests.fakes import core as c
from tests.fakes.path import dialect

NAME = "mine-1a2b"


def ids(site: Site, array: str, *offsets: int) -> list[JobId]:
    return [JobId(array, site.driver.first_index + offset) for offset in offsets]


# Which drivers


def test_every_driver_speaks_to_a_fake() -> None:
    """A driver without a dialect here is held to nothing."""
    assert set(SYSTEMS) == set(DRIVERS) - set(EXEMPT)
    for name in SYSTEMS:
        spoken = dialect(name)
        assert spoken.name == name
        assert set(DRIVERS[name].programs) <= set(spoken.programs)
        assert spoken.first == DRIVERS[name].first_index


def test_the_machine_is_recognised(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its programs on the PATH are enough, also where other systems call theirs the same."""
    (site.installed.bin / "sh").symlink_to("/bin/sh")  # the machine's own may have programs, too
    monkeypatch.setenv("PATH", str(site.installed.bin))
    found = detect.look()
    assert (found.batch, found.server) == (site.name, "answers"), found


# Submit


async def test_an_array_is_one_command_and_found_by_name_and_by_id(site: Site) -> None:
    """Twenty jobs: one submission; the listing has all of them, named, from the first index."""
    array = await site.submit(NAME, 20)
    assert sum(site.client.commands.values()) == 1
    with site.array(NAME) as (core, truth):
        assert core.submits == [(NAME, 20)]
        assert list(truth.jobs) == list(Submission(NAME, 20, site.driver.first_index).indices)
    for known in (array, None):
        listing = await site.client.query({NAME: known})
        assert listing.names.get(NAME, known) == array  # who has the id needs no name
        assert sorted(listing.jobs) == ids(site, array, *range(20))
        assert {status.state.name for status in listing.jobs.values()} == {"PENDING"}


async def test_an_array_of_one_is_an_array(site: Site) -> None:
    """The last job of a pool is submitted like any other."""
    array = await site.submit(NAME, 1)
    for known in (array, None):
        listing = await site.client.query({NAME: known})
        assert list(listing.jobs) == ids(site, array, 0)
        assert listing.names.get(NAME, known) == array


async def test_only_the_arrays_asked_for_are_told_apart_from_others(site: Site) -> None:
    """One query for several arrays, one of them known by name alone; each has its own jobs."""
    first, second = await site.submit("mine-1", 3), await site.submit("mine-2", 2)
    await site.submit("other-3", 2)
    listing = await site.client.query({"mine-1": first, "mine-2": None})
    wanted = [*ids(site, first, 0, 1, 2), *ids(site, second, 0, 1)]
    assert {job for job in listing.jobs if job.array in (first, second)} == set(wanted)
    assert listing.names["mine-2"] == second
    assert listing.names.get("mine-1", first) == first


async def test_the_system_gets_what_the_spec_asks_for(site: Site) -> None:
    """Cores, bytes, seconds, GPUs, nodes, queue and account arrive in the system's own units."""
    asked = {
        "cores": 4,
        "nodes": 2,
        "gpus": 1,
        "memory": 6 * c.GIB,
        "walltime": 5400,
        "queue": "main",
        "account": "lab",
    }
    asked = {key: value for key, value in asked.items() if key not in site.dialect.unasked}
    await site.submit(NAME, 2, options=site.dialect.asks, **asked)
    with site.array(NAME) as (_, truth):
        got = {key: getattr(truth.request, key) for key in asked}
    assert got == asked


async def test_what_the_spec_leaves_open_is_not_asked_for(site: Site) -> None:
    """No memory, walltime, queue or account unless the user says so."""
    await site.submit(NAME, 2)
    with site.array(NAME) as (_, truth):
        request = truth.request
        got = (request.memory, request.walltime, request.queue, request.account, request.gpus)
    assert got == (None, None, "", "", 0)


async def test_a_bad_queue_is_refused_in_the_systems_own_words(site: Site) -> None:
    """A mistake of the user is told as the system tells it, and nothing exists afterwards."""
    refusal = SubmitRejected if site.dialect.no_queue else ConfigurationError
    with pytest.raises(refusal) as caught:
        await site.submit(NAME, 3, queue="nosuch")
    assert site.dialect.no_queue in str(caught.value)
    with site.core() as core:
        assert core.submits == []


@pytest.mark.parametrize(
    "directory", ["two words", "it's", "100%j", "%jobid%", "$USER", "$HOME", "a,b", "^x^{{id}}"]
)
async def test_blanks_and_signs_in_paths_are_taken_literally(
    site: Site, tmp_path: Path, directory: str
) -> None:
    """The job's log is where we look for it, or the directory is refused before the submission."""
    logs = tmp_path / "my logs" / directory
    logs.mkdir(parents=True)
    try:
        await site.submit(NAME, 3, log_directory=logs)
    except ConfigurationError as caught:
        refused: Exception = caught
    else:
        refused = Exception()
    if isinstance(refused, ConfigurationError):
        assert directory in str(refused), "told by its name, before anything is submitted"
        assert set(directory) & set("$%,^{"), "an ordinary name is not refused"
        return
    _run_job(site, site.driver.first_index + 2)
    log = log_path(logs, NAME, site.driver.first_index + 2)
    assert log.read_text(encoding="utf-8") == f"{NAME}-{site.driver.first_index + 2}\n"


async def test_workers_are_named_after_their_job(site: Site, tmp_path: Path) -> None:
    """In a job's shell the worker prefix is NAME-INDEX, for exactly the indices that we know."""
    array = await site.submit(NAME, 3)
    listing = await site.client.query({NAME: array})
    for job in listing.jobs:
        _run_job(site, job.index)
        log = log_path(tmp_path, NAME, job.index)
        assert log.read_text(encoding="utf-8") == f"{NAME}-{job.index}\n"


def _run_job(site: Site, index: int) -> None:
    """Be the node: run the script that was submitted, with what the system puts around it."""
    with site.array(NAME) as (_, array):
        job = array.jobs[index]
        environ = {"PATH": "/usr/bin:/bin", "USER": "alice", **site.dialect.environment(array, job)}
        log, script = site.dialect.log(array, job), array.script
    with Path(log).open("ab") as file:
        subprocess.run(
            ["bash", "-c", script],
            env=environ,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            check=True,
        )


# Query


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "forgotten"])
async def test_every_way_to_end_is_told_apart(site: Site, kept: bool) -> None:
    """From the listing while it has them, from the record afterwards."""
    ends = [end for end in c.ENDS if end not in site.dialect.absent]
    array = await site.submit(NAME, len(ends))
    first = site.driver.first_index
    with site.array(NAME) as (core, truth):
        for job, state in zip(truth.jobs.values(), ends, strict=True):
            core.start(job)
            core.end(job, state, code=3 if state == c.FAILED else 0)
        core.forget = core.forget or not kept
    seen = await site.look(NAME, array)
    told = {state: seen[first + i].state.name for i, state in enumerate(ends) if first + i in seen}
    wanted = {state: expected(site, state) for state in ends}
    if not kept or site.dialect.forgets:
        wanted = {s: site.dialect.forgotten.get(s, word) for s, word in wanted.items()}
    wanted = {state: word for state, word in wanted.items() if word}  # "": no trace at all
    assert told == wanted
    with site.core() as core:
        if "FAILED" in told.values() and site.dialect.tells_code(core):
            assert seen[first + ends.index(c.FAILED)].exit_code == 3


async def test_jobs_that_live_are_told_apart(site: Site) -> None:
    """Waiting, held, running, ending."""
    states = (c.PENDING, c.HELD, c.RUNNING, c.ENDING)
    array = await site.submit(NAME, 4)
    with site.array(NAME) as (core, truth):
        for job, state in zip(truth.jobs.values(), states, strict=True):
            if state in (c.RUNNING, c.ENDING):
                core.start(job)
            job.state = state
    seen = await site.look(NAME, array)
    first = site.driver.first_index
    told = {state: seen[first + i].state.name for i, state in enumerate(states)}
    assert told == {state: expected(site, state) for state in states}
    if site.dialect.tells_node:
        assert seen[first + 2].node == "node01"


async def test_a_requeued_job_waits_again_as_itself(site: Site) -> None:
    """Back to pending with the same identity: neither gone nor new."""
    array = await site.submit(NAME, 3)
    with site.array(NAME) as (core, truth):
        for job in truth.jobs.values():
            core.start(job)
        core.requeue(truth.jobs[site.driver.first_index + 1])
    seen = await site.look(NAME, array)
    states = [seen[site.driver.first_index + i].state.name for i in range(3)]
    assert states == ["RUNNING", "PENDING", "RUNNING"]


async def test_a_job_without_a_trace_is_not_invented(site: Site) -> None:
    """One that vanished is in no listing and no record; its neighbours are."""
    array = await site.submit(NAME, 3)
    with site.array(NAME) as (core, truth):
        for job in truth.jobs.values():
            core.start(job)
        truth.jobs[site.driver.first_index + 1].vanished = True
    seen = await site.look(NAME, array)
    states = {index: status.state.name for index, status in seen.items()}
    assert states == {i + site.driver.first_index: "RUNNING" for i in (0, 2)}


async def test_a_record_that_is_not_kept_is_no_error(site: Site) -> None:
    """Accounting switched off: nothing is known, nothing fails."""
    array = await site.submit(NAME, 2)
    with site.array(NAME) as (core, truth):
        for job in truth.jobs.values():
            core.start(job)
            core.end(job, c.COMPLETED)
        core.forget, core.accounting = True, False
    assert bool(await site.look(NAME, array)) == site.dialect.records


async def test_no_such_jobs_is_an_answer(site: Site) -> None:
    """Unknown names and ids: an empty listing, not silence."""
    unknown = [
        {"nobody-1": None},
        {"nobody-1": site.dialect.unknown},
        {"a-1": None, "b-1": site.dialect.unknown},
    ]
    if site.dialect.records:  # it forgets no id that it gave: silence about one is no answer
        del unknown[1:]
    for arrays in unknown:
        listing = await site.client.query(arrays)
        assert (dict(listing.jobs), dict(listing.names)) == ({}, {})
    array = await site.submit(NAME, 2)
    listing = await site.client.query(
        {NAME: array, "nobody-1": site.dialect.unknown, "nobody-2": None}
    )
    assert set(listing.jobs) == set(ids(site, array, 0, 1))


async def test_a_job_that_can_never_run_is_refused_or_said_to_be_impossible(site: Site) -> None:
    """More cores than any node has: the user learns it now, not after a night in the queue."""
    try:
        array = await site.submit(NAME, 2, cores=64)
    except SubmitRejected:
        return
    listing = await site.client.query({NAME: array})
    if not any(status.impossible for status in listing.jobs.values()):
        assert site.client.tells_why
        why = await site.client.why(array)
        assert why.impossible
        assert why.reason


async def test_a_job_that_waits_its_turn_is_not_impossible(site: Site) -> None:
    """A full machine is no reason to give up."""
    array = await site.submit(NAME, 2)
    listing = await site.client.query({NAME: array})
    assert not any(status.impossible for status in listing.jobs.values())
    if site.client.tells_why:
        assert not (await site.client.why(array)).impossible


# Cancel


async def test_part_of_an_array_is_cancelled(site: Site) -> None:
    """Exactly the jobs named end."""
    array = await site.submit(NAME, 8)
    await site.client.cancel(ids(site, array, 1, 2, 3, 6), {array: 8})
    with site.array(NAME) as (_, truth):
        first = site.driver.first_index
        assert [i - first for i, job in truth.jobs.items() if not job.live] == [1, 2, 3, 6]


async def test_whole_arrays_are_cancelled(site: Site) -> None:
    """Several at once, with no more commands than arrays; others are left alone."""
    arrays = {await site.submit(f"mine-{i}", 4): 4 for i in range(3)}
    await site.submit("other-1", 2)
    site.client.commands.clear()
    with site.core() as core:
        core.tick()
    await site.client.cancel(
        [job for array in arrays for job in ids(site, array, 0, 1, 2, 3)], arrays
    )
    assert sum(site.client.commands.values()) <= len(arrays)
    with site.core() as core:
        assert core.live() == 2
        assert {array.name for array, job in core.jobs() if job.live} == {"other-1"}


async def test_cancelling_what_is_gone_is_no_error(site: Site) -> None:
    """Ended, unknown and live ones in one go: the live ones end."""
    gone, live = await site.submit("gone-1", 2), await site.submit("live-1", 3)
    sizes = {gone: 2, live: 3, site.dialect.unknown: 2}
    with site.array("gone-1") as (core, truth):
        core.cancel(truth)
        core.forget = True
    everything = [
        *ids(site, gone, 0, 1),
        *ids(site, site.dialect.unknown, 0, 1),
        *ids(site, live, 0, 2),
    ]
    await site.client.cancel(everything, sizes)
    await site.client.cancel(ids(site, live, 0), sizes)
    await site.client.cancel(ids(site, site.dialect.unknown, 0, 1), {site.dialect.unknown: 2})
    with site.array("live-1") as (_, truth):
        first = site.driver.first_index
        assert [i - first for i, job in truth.jobs.items() if job.live] == [1]


# Weather


async def test_a_server_that_is_down_is_not_observed(site: Site) -> None:
    """Silence is silence: no listing, no refusal, no record, and nothing is gone."""
    array = await site.submit(NAME, 2)
    with site.core() as core:
        core.faults.down = "refuses"
    if site.dialect.hangs:
        site.client = BatchClient(site.driver, partial(run, timeout=0.25))
    with pytest.raises(BatchSystemUnavailable):
        await site.client.query({NAME: array})
    with pytest.raises(BatchSystemUnavailable):
        await site.client.query({NAME: None})
    with pytest.raises(BatchSystemUnavailable):
        await site.submit("mine-2", 2)
    with pytest.raises(BatchSystemUnavailable):
        await site.client.cancel(ids(site, array, 0), {array: 2})
    assert not (await site.client.history([array])).jobs
    with site.core() as core:
        core.faults.down = ""
        assert core.live() == 2
    site.client = BatchClient(site.driver, partial(run, timeout=30.0))
    assert len((await site.client.query({NAME: array})).jobs) == 2


async def test_a_server_that_hangs_is_not_observed(site: Site) -> None:
    """No answer within the time is no answer."""
    with site.core() as core:
        core.faults.down = "hangs"
    impatient = BatchClient(site.driver, partial(run, timeout=0.2))
    with pytest.raises(BatchSystemUnavailable):
        await impatient.query({NAME: None})


async def test_a_slow_answer_is_an_answer(site: Site) -> None:
    """A server may take its time: what it says counts all the same."""
    with site.core() as core:
        core.faults.slow = 0.3
    array = await site.submit(NAME, 2)
    assert set((await site.client.query({NAME: array})).jobs) == set(ids(site, array, 0, 1))


async def test_a_busy_server_is_asked_to_cancel_again(site: Site) -> None:
    """Try-again is no refusal: a cancel insists."""
    array = await site.submit(NAME, 2)
    with site.core() as core:
        core.faults.busy = 2
    await site.client.cancel(ids(site, array, 0, 1), {array: 2})
    with site.core() as core:
        assert core.live() == 0


async def test_a_busy_server_leaves_a_submission_in_doubt(site: Site) -> None:
    """Try-again is no refusal: whether the array exists is looked up by its name."""
    with site.core() as core:
        core.faults.busy = 1
    with pytest.raises(BatchSystemUnavailable):
        await site.submit(NAME, 2)
    with site.core() as core:
        core.faults.busy = 1
    with pytest.raises(BatchSystemUnavailable):
        await site.client.query({NAME: None})


async def test_chatter_of_a_wrapper_is_ignored(site: Site) -> None:
    """What a site prints around the commands' output changes nothing."""
    with site.core() as core:
        core.faults.chatter = True
    array = await site.submit(NAME, 4)
    with site.array(NAME) as (core, truth):
        quiet = [str(core.arrays[number].number) for number in core.arrays]
        jobs = list(truth.jobs.values())
        core.start(jobs[0])
        core.start(jobs[1])
        core.end(jobs[1], c.FAILED, code=3)
    assert len(quiet) == 1
    seen = await site.look(NAME, array)
    loud = {index: status.state.name for index, status in seen.items()}
    with site.core() as core:
        core.faults.chatter = False
    seen = await site.look(NAME, array)
    assert loud == {index: status.state.name for index, status in seen.items()}
    with site.core() as core:
        core.faults.chatter = True
    assert "nobody-1" not in (await site.client.query({"nobody-1": None})).names
    await site.client.cancel(ids(site, array, 2), {array: 4})
    with site.core() as core:
        assert core.live() == 2
    with pytest.raises(SubmitRejected):
        await site.submit("mine-2", 2, **site.dialect.refused)


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(
    "text",
    [
        "<html><body><h1>502 Bad Gateway</h1>id 7 | R | mine-1a2b</body></html>\n",
        "{\n",
        "mine-1a2b\nRUNNING\n0\n",
        "\x00\xff\x01 12[3] R C F \n",
        "Job 7 7[0] 7.1 7_1: COMPLETED\n",
        '{"Jobs": 3, "jobs": null, "7": {"state": 4}}\n',
        "[[], 1, null]\n",
    ],
    ids=["html", "brace", "words", "binary", "sentence", "object", "list"],
)
async def test_garbage_never_becomes_a_status_or_an_id(site: Site, text: str, code: int) -> None:
    """Whatever is printed instead of an answer: no job, no name, no array id comes of it."""
    argv = site.driver.query({NAME: "100"})
    garbage = Output(argv, code, text, text if code else "")
    if site.driver.answered(garbage):
        try:
            listing = site.driver.states(garbage)
        except BatchSystemUnavailable:
            pass
        else:
            assert (dict(listing.jobs), dict(listing.names)) == ({}, {})
    for command in site.driver.history(["100"]):
        with suppress(BatchSystemUnavailable):
            assert not site.driver.ended(Output(command, code, text)).jobs
    command = site.driver.why("100")
    if command is not None:
        assert not site.driver.because(Output(command, code, text)).impossible
    if code == 0:
        spec = site.spec()
        submit = site.driver.submit(Submission(NAME, 2), spec, Path("job.sh"))
        with pytest.raises(BatchSystemError):
            site.driver.submitted(Output(submit, 0, text))


async def test_garbage_in_the_record_is_no_news(site: Site) -> None:
    """A record that cannot be read is asked for again another time, and stops nothing."""
    array = await site.submit(NAME, 2)
    with site.array(NAME) as (core, truth):
        core.cancel(truth)
        core.forget = True
        core.faults.garbage = '{"jobs": 3}\n'
    past = await site.client.history([array])
    assert dict(past.jobs) == {}


async def test_an_answer_cut_short_is_never_read_wrongly(site: Site) -> None:
    """Cut at every place: what is still read of a job is true, and no other job appears."""
    array = await site.submit(NAME, 12)
    with site.array(NAME) as (core, truth):
        jobs = list(truth.jobs.values())
        ends = [end for end in c.ENDS if end not in site.dialect.absent]
        for job, state in zip(jobs, ends, strict=False):
            core.start(job)
            core.end(job, state, code=200 if state == c.FAILED else 0)
        core.start(jobs[8])
        core.hold(jobs[9])
        core.requeue(jobs[10])
    queries = [await site.output(site.driver.query({NAME: array}))]
    records = [await site.output(command) for command in site.driver.history([array])]
    for outputs, understand in ((queries, site.driver.states), (records, site.driver.ended)):
        for output in outputs:
            whole = words(understand(output))
            for cut in _cuts(output.stdout):
                short = Output(output.command, output.returncode, output.stdout[:cut])
                if understand == site.driver.states and not site.driver.answered(short):
                    continue
                try:
                    listing = understand(short)
                except BatchSystemUnavailable:
                    continue
                part = words(listing)
                assert part.items() <= whole.items(), repr(short.stdout[-80:])
                assert listing.names.get(NAME, array) == array
    submitted = await site.output(
        site.driver.submit(Submission("mine-2", 2, site.driver.first_index), *site.written())
    )
    true_id = site.driver.submitted(submitted)
    for cut in range(len(submitted.stdout)):
        short = Output(submitted.command, 0, submitted.stdout[:cut])
        try:
            assert site.driver.submitted(short) == true_id, repr(short.stdout)
        except BatchSystemError:
            continue


def _cuts(text: str) -> list[int]:
    """Places to cut: every one of a short text and of the last lines, a sample of a long one."""
    step = max(1, len(text) // 300)
    return sorted({*range(0, len(text), step), *range(max(0, len(text) - 300), len(text))})


@pytest.mark.parametrize("chatter", [False, True], ids=["silent", "chatter"])
async def test_a_submit_command_that_is_killed_leaves_the_submission_in_doubt(
    site: Site, chatter: bool
) -> None:
    """Neither refused nor known: it is found again by its name."""
    with site.core() as core:
        core.faults.lose_reply, core.faults.chatter = "killed", chatter
    with pytest.raises(BatchSystemError) as caught:
        await site.submit(NAME, 3)
    assert not isinstance(caught.value, SubmitRejected)
    listing = await site.client.query({NAME: None})
    with site.array(NAME) as (_, truth):
        assert len(listing.jobs) == len(truth.jobs) == 3
    array = listing.names[NAME]
    await site.client.cancel(list(listing.jobs), {array: 3})
    with site.core() as core:
        assert core.live() == 0


async def test_a_users_own_settings_change_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables by which a user changes what the commands do are kept from ours."""
    for name, value in site.dialect.hostile.items():
        monkeypatch.setenv(name, value)
    array = await site.submit(NAME, 3)
    listing = await site.client.query({NAME: array})
    assert set(listing.jobs) == set(ids(site, array, 0, 1, 2))


# Clearing away


@pytest.mark.parametrize("known", [True, False], ids=["known", "in doubt"])
async def test_the_reaper_clears_away(
    site: Site, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash the journal alone is enough to find and end every job."""
    monkeypatch.setattr(reaper, "LOOK", 0.0)
    monkeypatch.setattr(reaper, "IN_DOUBT_SETTLE", 0.0)
    directory = tmp_path / "cluster"
    directory.mkdir()
    journal = Journal(directory / reaper.JOURNAL)
    journal.append("opened", batch=site.name)
    for name in ("mine-1", "mine-2"):
        journal.append("intended", name=name, pool="default", count=3)
        array = await site.submit(name, 3)
        if known:
            journal.append("submitted", name=name, array=array)
    journal.close()
    await site.submit("other-1", 2)
    with site.core() as core:
        core.tick()
    assert await reaper.reap(directory, patience=20)
    with site.core() as core:
        assert {array.name for array, job in core.jobs() if job.live} == {"other-1"}
    assert list(read(directory / reaper.JOURNAL))[-1]["event"] == "closed"
