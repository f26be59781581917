"""The DRMAA commands, with a library that does as Grid Engine's was seen to do."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dask_hpc.batch import drmaa
from dask_hpc.batch import drmaa_book as books


class _Errors:
    """The package's exceptions that matter; others of it are plain ones."""

    class DrmCommunicationException(Exception):
        pass

    class TryLaterException(Exception):
        pass

    class DrmsInitException(Exception):
        pass

    class InvalidJobException(Exception):
        pass

    class DeniedByDrmException(Exception):
        pass


class _Attribute:
    def __init__(self, name: str) -> None:
        self.name = name

    def __set__(self, template: Any, value: str) -> None:
        template.set[self.name] = value


@dataclass
class Library:
    """One batch system: the state of each job by its id, and what it was asked."""

    states: dict[str, str] = field(default_factory=dict)
    infos: dict[str, Any] = field(default_factory=dict)
    templates: list[Any] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    fails: Exception | None = None
    sessions: int = 0

    def module(self) -> ModuleType:
        module: Any = ModuleType("drmaa")
        module.errors = _Errors
        module.helpers = SimpleNamespace(Attribute=_Attribute)
        module.JobControlAction = SimpleNamespace(TERMINATE="terminate")
        module.JobTemplate = SimpleNamespace(PARAMETRIC_INDEX="$drmaa_incr_ph$")
        module.Session = lambda: Session(self)
        return module


class Session:
    TIMEOUT_NO_WAIT = 0

    def __init__(self, library: Library) -> None:
        self.library = library

    def initialize(self) -> None:
        self.library.sessions += 1

    def exit(self) -> None:
        self.library.sessions -= 1

    def createJobTemplate(self) -> Any:  # noqa: N802
        return SimpleNamespace(set={}, attributeNames=["drmaa_wd", "drmaa_wct_hlimit"])

    def runBulkJobs(self, template: Any, first: int, last: int, step: int) -> list[str]:  # noqa: N802
        if self.library.fails:
            raise self.library.fails
        self.library.templates.append(template)
        ids = [f"62.{index}" for index in range(first, last + 1, step)]
        self.library.states.update(dict.fromkeys(ids, "queued_active"))
        return ids

    def jobStatus(self, job: str) -> str:  # noqa: N802
        if job not in self.library.states:
            raise _Errors.InvalidJobException("code 18: The job does not exist.")
        return self.library.states[job]

    def wait(self, job: str, timeout: int) -> Any:
        assert timeout == self.TIMEOUT_NO_WAIT
        if job not in self.library.infos:
            raise Exception("code 24: no usage information was returned")  # noqa: TRY002  (seen)
        return self.library.infos.pop(job)  # told once

    def control(self, job: str, action: str) -> None:
        assert action == "terminate"
        if self.library.fails:
            raise self.library.fails
        self.jobStatus(job)
        self.library.terminated.append(job)


def info(*, exited: int | None = None, signal: str = "", aborted: bool = False) -> Any:
    return SimpleNamespace(
        hasExited=exited is not None,
        exitStatus=exited or 0,
        terminatedSignal=signal,
        wasAborted=aborted,
    )


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setitem(sys.modules, "drmaa", made.module())
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "home"))
    return made


@pytest.fixture
def place(library: Library) -> Path:
    return books.directory(os.environ)


def submit(name: str = "mine-1", count: int = 3, *more: str) -> int:
    return drmaa.main(
        [
            "submit",
            f"--name={name}",
            f"--count={count}",
            "--logs=/l x",
            *more,
            "--",
            "sh",
            "-e",
            "j",
        ]
    )


def listed(capsys: pytest.CaptureFixture[str], *names: str) -> list[str]:
    capsys.readouterr()
    assert drmaa.main(["query", *names]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_submission_is_one_bulk(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    """With its name, log and command as they are; its name is printed."""
    assert submit("mine-1", 3, "--native=-pe smp 4", "--set=drmaa_wct_hlimit=1:00:00") == 0
    assert capsys.readouterr().out == "mine-1\n"
    (template,) = library.templates
    assert template.jobName == "mine-1"
    assert (template.remoteCommand, template.args) == ("sh", ["-e", "j"])
    assert template.outputPath == ":/l x/mine-1-$drmaa_incr_ph$.log"
    assert template.joinFiles is True
    assert template.workingDirectory == str(Path.cwd())
    assert template.jobEnvironment == {"DASK_HPC_JOB": "mine-1"}
    assert template.nativeSpecification == "-pe smp 4"
    assert template.set == {"drmaa_wct_hlimit": "1:00:00"}
    assert library.sessions == 0


def test_what_is_remembered_is_the_users_alone(library: Library, place: Path) -> None:
    """Files of mode 0600 in a directory of mode 0700, without leftovers."""
    submit()
    (path,) = place.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    kept = json.loads(path.read_text())
    assert (kept["count"], kept["ids"]) == (3, ["62.1", "62.2", "62.3"])


def test_jobs_are_listed_by_index(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the submissions named; one that never was has none."""
    submit()
    library.states |= {"62.1": "running", "62.3": "user_on_hold"}
    assert listed(capsys, "mine-1", "nosuch") == [
        "mine-1_1|running||",
        "mine-1_2|queued_active||",
        "mine-1_3|user_on_hold||",
    ]


def test_an_end_is_told_once_and_remembered(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wait() takes the record away; later the batch system does not know the job at all."""
    submit("mine-1", 5)
    library.states |= dict.fromkeys(["62.1", "62.2", "62.3", "62.4"], "done")
    library.infos = {
        "62.1": info(exited=0),
        "62.2": info(exited=3),
        "62.3": info(signal="SIGKILL"),
        "62.4": info(aborted=True),
    }
    ends = [
        "mine-1_1|done|0|",
        "mine-1_2|failed|3|",
        "mine-1_3|failed||SIGKILL",
        "mine-1_4|failed||aborted",
    ]
    assert listed(capsys, "mine-1") == [*ends, "mine-1_5|queued_active||"]
    library.states.clear()
    assert listed(capsys, "mine-1") == ends


def test_a_job_that_is_no_longer_known_is_left_out(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recorded of Grid Engine: a later session knows nothing of a job that has ended."""
    submit()
    del library.states["62.2"]
    assert listed(capsys, "mine-1") == ["mine-1_1|queued_active||", "mine-1_3|queued_active||"]


def test_an_end_without_a_record_is_told_by_its_state(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package raises a plain exception then (recorded: code 24)."""
    submit("mine-1", 1)
    library.states["62.1"] = "failed"
    assert listed(capsys, "mine-1") == ["mine-1_1|failed||"]


def test_a_submission_that_was_refused_leaves_nothing(
    library: Library, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says why, in the batch system's own words."""
    library.fails = _Errors.DeniedByDrmException("code 17: error: no suitable queues")
    assert submit() == 1
    assert capsys.readouterr().err == "drmaa: error: no suitable queues\n"
    assert list(place.iterdir()) == []
    assert library.sessions == 0


def test_a_submission_of_unknown_outcome_is_recognised(
    library: Library, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """The batch system may have it: first it is waited for, then its jobs are given up."""
    library.fails = _Errors.DrmCommunicationException("code 2: got send timeout")
    assert submit("mine-1", 2) == 75
    assert "the batch system does not answer: got send timeout" in capsys.readouterr().err
    library.fails = None
    assert listed(capsys, "mine-1") == ["mine-1_1|unsettled||", "mine-1_2|unsettled||"]
    later = time.time() + books.UNSETTLED + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert listed(capsys, "mine-1") == ["mine-1_1|lost||", "mine-1_2|lost||"]
    assert drmaa.main(["cancel", "mine-1"]) == 0
    assert list(place.iterdir()) == []


def test_a_batch_system_that_asks_for_patience_gets_it(
    library: Library, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was submitted, so nothing is kept."""
    library.fails = _Errors.TryLaterException("code 16: busy")
    assert submit() == 75
    assert list(place.iterdir()) == []


def test_a_name_is_submitted_once(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    """A second submission of it would hide the first."""
    assert submit() == 0
    assert submit() == 1
    assert "submitted already" in capsys.readouterr().err
    assert len(library.templates) == 1


def test_an_attribute_that_the_library_lacks_is_refused(
    library: Library, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the way around it; not dropped: the job would run into another limit."""
    assert submit("mine-1", 1, "--set=drmaa_deadline_time=1") == 1
    said = capsys.readouterr().err
    assert "does not know drmaa_deadline_time" in said
    assert "native_specification" in said
    assert list(place.iterdir()) == []


def test_parts_are_terminated_and_what_has_ended_is_no_error(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with any batch system."""
    submit("a_b", 4)
    del library.states["62.3"]
    assert drmaa.main(["cancel", "a_b_[1,3-4]", "nosuch"]) == 0
    assert library.terminated == ["62.1", "62.4"]
    assert drmaa.main(["cancel", "a_b"]) == 0
    assert library.terminated == ["62.1", "62.4", "62.1", "62.2", "62.4"]


def test_jobs_that_cannot_be_terminated_are_told(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    """After all were tried; silence of the batch system is something else."""
    submit("mine-1", 2)
    library.fails = _Errors.DeniedByDrmException("code 17: not yours")
    assert drmaa.main(["cancel", "mine-1"]) == 1
    assert capsys.readouterr().err == "drmaa: 62.1: not yours; 62.2: not yours\n"
    library.fails = _Errors.DrmCommunicationException("code 2: down")
    assert drmaa.main(["cancel", "mine-1"]) == 75


def test_files_of_what_is_over_are_removed_after_a_day(
    library: Library, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a later submission; those with live jobs stay, whatever their age."""
    submit("old", 1)
    library.states.clear()
    listed(capsys, "old")
    submit("live", 1)
    submit("stale", 1)
    for name, age in (("old", books.KEEP), ("live", books.KEEP), ("stale", books.EXPIRE)):
        path = place / f"{name}.json"
        kept = json.loads(path.read_text())
        if kept["over"]:
            kept["over"] -= age + 1
            path.write_text(json.dumps(kept))
        then = time.time() - age - 1
        os.utime(path, (then, then))
    submit("new", 1)
    assert {path.stem for path in place.iterdir()} == {"live", "new"}


def test_a_job_that_comes_back_is_not_over(
    library: Library, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch system that forgot it for a while must not cost us its id."""
    submit("mine-1", 1)
    states, library.states = library.states, {}
    assert listed(capsys, "mine-1") == []
    assert json.loads((place / "mine-1.json").read_text())["over"] > 0
    library.states = states
    assert listed(capsys, "mine-1") == ["mine-1_1|queued_active||"]
    assert json.loads((place / "mine-1.json").read_text())["over"] == 0


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a b"])
def test_a_name_leads_nowhere_else(
    library: Library, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a file's name."""
    assert submit(name) == 1
    assert drmaa.main(["query", name]) == 1
    assert drmaa.main(["cancel", f"{name}_[1-"]) == 1


def test_a_file_that_is_broken_is_no_answer(
    library: Library, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty list would make its jobs gone."""
    (place / "mine-1.json").write_text('{"name"')
    assert drmaa.main(["query", "mine-1"]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_a_directory_that_others_may_use_is_refused(
    library: Library, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They could have us terminate any job of this user."""
    place.chmod(0o755)
    assert drmaa.main(["query", "mine-1"]) == 1
    assert "chmod 700" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ModuleNotFoundError("No module named 'drmaa'"), "pip install 'dask-hpc[drmaa]'"),
        (RuntimeError("Could not find drmaa library."), "$DRMAA_LIBRARY_PATH"),
        (OSError("/x/libdrmaa.so: cannot open shared object file"), "$DRMAA_LIBRARY_PATH"),
        (
            OSError("/lib/libjemalloc.so.2: cannot allocate memory in static TLS block"),
            "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096",
        ),
    ],
)
def test_a_missing_library_says_what_to_do(
    library: Library,
    place: Path,
    error: Exception,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each of the ways in which it was seen to be missing."""

    def fails(name: str) -> None:
        raise error

    monkeypatch.setattr("importlib.import_module", fails)
    assert submit() == 1
    assert hint in capsys.readouterr().err
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "code"), [([], 2), (["serve"], 2), (["submit"], 1), (["cancel"], 1)]
)
def test_what_is_no_command_is_refused(
    argv: list[str], code: int, library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a word about it."""
    assert drmaa.main(argv) == code
    assert capsys.readouterr().err
