"""Commands about clusters that run: what they tell the head, and what they print."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from dask_hpc.cli import status
from dask_hpc.cli.entry import hpc
from dask_hpc.cli.scale import understood
from dask_hpc.cluster.report import Report
from dask_hpc.errors import HeadUnreachable
from tests.unit.cli_fakes import NOW, FakeHead, cluster, have, job, pool, view


def call(*arguments: str) -> Result:
    return CliRunner().invoke(hpc, arguments)


# -- which cluster --------------------------------------------------------------------------------


def test_the_only_cluster_need_not_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has died does not count beside a living one."""
    have(monkeypatch, cluster("study"), cluster("old", alive=False))
    assert "cluster: study\n" in call("status").stdout


def test_of_several_clusters_one_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, with the names."""
    have(monkeypatch, cluster("study"), cluster("other"))
    result = call("jobs")
    assert result.exit_code == 2
    assert "say which: study, other" in result.stderr


def test_without_a_cluster_the_way_to_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3; an empty list is none."""
    have(monkeypatch)
    result = call("status")
    assert result.exit_code == 3
    assert "dask-hpc up" in result.stderr
    assert call("ls").exit_code == 0
    assert json.loads(call("ls", "--json").stdout) == []


def test_a_mistyped_name_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Did you mean."""
    have(monkeypatch, cluster("study"), cluster("other"))
    result = call("status", "stduy")
    assert result.exit_code == 3
    assert "did you mean study?" in result.stderr
    assert "there are: study, other" in call("status", "nothing-like-it").stderr


def test_a_dead_head_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, with what clears away."""
    have(monkeypatch, cluster(alive=False))
    result = call("status", "study")
    assert result.exit_code == 3
    assert "`dask-hpc revive study` does; `dask-hpc down study`" in result.stderr
    have(monkeypatch, cluster(alive=False, head="here"))
    assert "revive" not in call("status", "study").stderr


def test_a_head_that_took_its_jobs_along_is_not_revived(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor one that lives."""
    have(monkeypatch, cluster(alive=False, head="here", directory=tmp_path))
    result = call("revive")
    assert result.exit_code == 1
    assert "cannot be taken over: its head was not detached" in result.stderr
    have(monkeypatch, cluster())
    assert "the head of cluster study lives: process 4321 on login1" in call("revive").stderr


# -- ls, status, jobs -----------------------------------------------------------------------------


def test_ls_tells_living_dead_and_silent_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """One head that does not answer keeps nothing from the others."""
    have(monkeypatch, cluster("study"), cluster("old", alive=False))
    rows = {row["name"]: row for row in json.loads(call("ls", "--json").stdout)}
    assert rows["study"]["status"] == "running"
    assert rows["study"]["workers"] == 8
    assert rows["study"]["jobs"] == {"running": 2, "pending": 1}
    assert rows["old"]["status"] == "dead"
    lines = call("ls").stdout.splitlines()
    assert lines[0].split()[0] == "name"
    assert lines[1].endswith("detached, login1  3 wanted: 2 running, 1 pending (Resources)")

    def silent() -> None:
        raise HeadUnreachable("no answer from login1:4000")

    head = FakeHead()
    head.view = lambda **_: silent()
    have(monkeypatch, cluster("study"), head=head)
    (row,) = json.loads(call("ls", "--json").stdout)
    assert (row["status"], row["line"]) == ("no answer", "no answer from login1:4000")


def test_status_says_everything_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is empty is left out."""
    have(monkeypatch, cluster())
    shown = dict(line.split(": ", 1) for line in call("status").stdout.splitlines())
    assert shown["jobs"] == "3 wanted: 2 running, 1 pending (Resources)"
    assert shown["workers"] == "8 of 12"
    assert shown["head"] == "detached: process 4321 on login1"
    assert shown["next start"].endswith("says the batch system")
    assert "problem" not in shown
    assert json.loads(call("status", "--json").stdout) == view()


def test_status_has_a_row_for_each_of_several_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what each may grow to."""
    pools = {"default": pool(), "gpu": pool(1, 1, adapting={"minimum": 0, "maximum": 4})}
    have(monkeypatch, cluster(), head=FakeHead([view(pools=pools)]))
    text = call("status").stdout
    assert "workers: 12 of 16" in text
    assert "adapting: gpu 0 to 4 jobs" in text
    (row,) = [line for line in text.splitlines() if line.startswith("gpu ")]
    assert row.split()[1:4] == ["1", "1", "4"]


def test_watching_ends_with_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each change that shows; the end is no error if nothing is left of the cluster."""
    pictures = [
        view(),
        view(changes=2),
        view(changes=3, line="3 wanted: 3 running", pools={"default": pool(3, 3)}),
    ]
    head = have(monkeypatch, cluster(), head=FakeHead(pictures))
    gone: list[str] = []
    monkeypatch.setattr(
        "dask_hpc.cli.status._ended", lambda known, _: bool(gone.append(known.name) or True)
    )
    result = call("status", "--watch")
    assert result.exit_code == 0
    assert [line.split(" ", 1)[1] for line in result.stdout.splitlines()] == [
        "8 workers; 3 wanted: 2 running, 1 pending (Resources)",
        "12 workers; 3 wanted: 3 running",
    ]
    assert "cluster study has been ended" in result.stderr
    assert len(head.told) == 3


def test_who_watches_does_not_hold_up_a_head_that_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked again."""
    head = have(monkeypatch, cluster(), head=FakeHead([view(status="closing")]))
    assert call("status", "--watch").exit_code == 0
    assert head.told == []


def test_on_a_terminal_the_picture_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place, at each change."""
    pictures = [view(), view(changes=2, line="3 wanted: 3 running")]
    head = have(monkeypatch, cluster(), head=FakeHead(pictures))
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("dask_hpc.cli.status._ended", lambda *_: True)
    status._watch(cluster(), head, as_json=False)
    text = screen.getvalue()
    assert text.index("1 pending (Resources)") < text.index("3 wanted: 3 running")
    assert "\x1b[1A" in text  # the cursor goes up to the first picture


def test_watching_a_head_that_falls_silent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory is still there."""
    have(monkeypatch, cluster())
    assert call("status", "--watch").exit_code == 3


def test_jobs_are_listed_with_their_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """And chosen by pool and state."""
    have(monkeypatch, cluster())
    lines = call("jobs").stdout.splitlines()
    assert len(lines) == 4
    assert lines[3].split()[:4] == ["77_2", "study-ab12-2", "default", "pending"]
    assert "Resources, starts about" in lines[3]
    assert json.loads(call("jobs", "--json", "--state", "pending").stdout) == [job(2, "pending")]
    none = call("jobs", "--pool", "gpu")
    assert (none.exit_code, none.stdout) == (0, "")


# -- scale, adapt, down ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name", "n"),
    [
        ((), None, None),
        (("study",), "study", None),
        (("4",), None, 4),
        (("study", "4"), "study", 4),
        (("study", "default=8", "gpu=2"), "study", {"default": 8, "gpu": 2}),
        (("gpu=0",), None, {"gpu": 0}),
    ],
)
def test_the_size_is_told_from_the_name(words: tuple[str, ...], name: object, n: object) -> None:
    """Names start with a letter."""
    assert understood(words) == (name, n)


@pytest.mark.parametrize(
    "words", [("study", "many"), ("4", "study"), ("-1",), ("study", "4", "gpu=1")]
)
def test_what_is_neither_name_nor_size_is_refused(words: tuple[str, ...]) -> None:
    """As wrong usage."""
    with pytest.raises(click.UsageError):
        understood(words)


def test_scale_tells_the_head_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """And prints what comes of it."""
    head = have(monkeypatch, cluster())
    result = call("scale", "study", "8")
    assert result.stdout == "3 wanted: 2 running, 1 pending (Resources)\n"
    call("scale", "--jobs", "2", "--pool", "gpu")
    call("scale", "default=8", "gpu=2")
    assert head.told == [
        ("scale", {"n": 8, "pool": None}),
        ("scale", {"jobs": 2, "pool": "gpu"}),
        ("scale", {"n": {"default": 8, "gpu": 2}, "pool": None}),
    ]
    for wrong in ((), ("4", "--jobs", "1"), ("gpu=1", "--pool", "gpu")):
        assert call("scale", *wrong).exit_code == 2
    assert len(head.told) == 3


def test_scale_waits_if_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """No longer than it may: exit code 4."""
    pictures = [view(), view(changes=2, pools={"default": pool(3, 3)})]
    have(monkeypatch, cluster(), head=FakeHead(pictures))
    assert call("scale", "12", "--wait").exit_code == 0
    have(monkeypatch, cluster())
    late = call("scale", "12", "--wait", "--timeout", "0")
    assert late.exit_code == 4
    assert "8 of 12 workers of cluster study joined in 0 s" in late.stderr


def test_adapt_passes_its_bounds_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those alone that were given."""
    head = have(monkeypatch, cluster())
    call("adapt", "study", "--minimum", "0", "--maximum-jobs", "8", "--pool", "gpu")
    assert head.told == [("adapt", {"minimum": 0, "maximum_jobs": 8, "pool": "gpu"})]


def test_renew_says_when_the_head_ends_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name may be left out; the time is the head's to read."""
    head = have(monkeypatch, cluster())
    said = call("renew", "study", "2h").stdout
    assert re.fullmatch(r"the job of study's head ends at .*\d\d:\d\d, in 2 h 10 min\n", said)
    assert json.loads(call("renew", "30 min", "--json").stdout)["head_deadline"] == NOW + 7800
    assert head.told == [("renew", {"walltime": "2h"}), ("renew", {"walltime": "30 min"})]
    assert call("renew").exit_code == 2
    assert "`renew study '2 h'`" in call("renew", "study", "2", "h").stderr


def test_down_ends_those_named_or_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name that is not known ends none."""
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path))
    head = have(monkeypatch, cluster("study"), cluster("other"))
    assert call("down", "study", "sudty").exit_code == 3
    assert call("down").exit_code == 2
    assert call("down", "--all", "study").exit_code == 2
    assert head.told == []
    assert call("down", "study").stdout == "cluster study is closed\n"
    assert call("down", "--all").exit_code == 0
    assert len(head.told) == 3


def test_a_silent_head_elsewhere_is_given_up_by_force_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may live; its directory says which jobs it has."""

    def silent() -> None:
        raise HeadUnreachable("no answer")

    head = FakeHead()
    head.shutdown = silent
    directory = tmp_path / "study"
    (directory / "logs").mkdir(parents=True)
    have(monkeypatch, cluster(alive=None, directory=directory), head=head)
    refused = call("down", "study")
    assert refused.exit_code == 3
    assert "dask-hpc down --force study" in refused.stderr
    assert directory.exists()
    assert call("down", "--force", "study").exit_code == 0
    assert not directory.exists()


# -- logs, attach ---------------------------------------------------------------------------------

LOGS = {
    "/logs/study-ab12-0.log": "zero\n",
    "/logs/study-ab12-1.node1.log": "one\ntwo\nthree\n",
    "/logs/study-ab12-1.node2.log": "four",
}


def test_logs_are_chosen_by_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, or by the batch system's id; of several nodes a job has several."""
    have(monkeypatch, cluster(), head=FakeHead(logs=LOGS))
    assert call("logs", "study", "77_0").stdout == "zero\n"
    several = call("logs", "study", "study-ab12-1", "--tail", "1").stdout
    assert several == (
        "==> /logs/study-ab12-1.node1.log <==\nthree\n"
        "\n==> /logs/study-ab12-1.node2.log <==\nfour\n"
    )
    unknown = call("logs", "study", "77_9")
    assert unknown.exit_code == 1
    assert "--paths" in unknown.stderr


def test_logs_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As lines, or as JSON with their text."""
    have(monkeypatch, cluster(), head=FakeHead(logs=LOGS))
    assert call("logs", "--paths").stdout.splitlines() == list(LOGS)
    assert json.loads(call("logs", "--json").stdout)[0] == {
        "path": "/logs/study-ab12-0.log",
        "text": "zero\n",
    }
    assert json.loads(call("logs", "--json", "--paths").stdout)[2] == {"path": list(LOGS)[2]}


def test_of_a_dead_head_the_logs_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They tell why it died, maybe."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "study-ab12-0.log").write_text("last words\n")
    have(monkeypatch, cluster(alive=False, directory=tmp_path))
    assert call("logs", "study").stdout == "last words\n"


def test_what_a_failed_cluster_has_left_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its logs are kept; a name is no path."""
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "home"))
    for place in ("home/study", "elsewhere"):
        (tmp_path / place / "logs").mkdir(parents=True)
        (tmp_path / place / "logs" / "study-ab12-0.log").write_text("no such module\n")
    have(monkeypatch)
    assert call("logs", "study", "study-ab12-0").stdout == "no such module\n"
    assert call("logs", "other").exit_code == 3
    assert call("logs", "../elsewhere").exit_code == 3


def test_a_detached_head_has_a_log_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One in a process of somebody's writes there."""
    have(monkeypatch, cluster(directory=tmp_path))
    assert "a head that is not detached" in call("logs", "--head").stderr
    (tmp_path / "head.log").write_text("started\nsaid more\n")
    assert call("logs", "--head", "--tail", "1").stdout == "said more\n"


def test_attach_prints_what_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python is Python, the shell line a shell line."""
    have(monkeypatch, cluster())
    text = call("attach", "study").stdout
    assert '    cluster = HPCCluster.attach("study")\n' in text
    assert "ssh -N -L 8787:127.0.0.1:8787" in text
    assert "@login1" in text
    found = json.loads(call("attach", "study", "--json").stdout)
    compile(found["python"], "attach", "exec")
    compile(found["client"], "attach", "exec")
    path = "/home/me/.dask-hpc/study/scheduler.json"
    assert found["shell"] == f"export DASK_HPC_SCHEDULER_FILE={path}"
    assert found["scheduler_file"] == path


def test_a_cluster_that_runs_is_reported_after_those_that_were_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With what it has cost so far."""
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path))
    total = {
        "core_hours": dict.fromkeys(("allocated", "used", "idle", "lost"), 0.0),
        "jobs": dict.fromkeys(("submitted", "failed", "preempted", "requeued"), 0),
        "wait_seconds": {"jobs": 0, "median": 0.0, "p90": 0.0, "longest": 0.0},
    }
    rest = {"tasks_rerun": 0, "keys_lost": 0, "commands": {}, "pools": {}, "total": total}
    now = Report(cluster="study", batch="slurm", opened=NOW, seconds=60.0, **rest)
    (tmp_path / "history.jsonl").write_text(json.dumps({**now, "opened": NOW - 900}) + "\n")
    have(monkeypatch, cluster(), head=FakeHead(report=now))
    opened = [each["opened"] for each in json.loads(call("report", "study", "--json").stdout)]
    assert opened == [NOW - 900, NOW]
    assert "cluster study on slurm, 00:01:00" in call("report", "study", "--last", "1").stdout
    assert call("report", "other").exit_code == 1


def test_times_are_counted_by_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this host may be another one."""
    have(monkeypatch, cluster(), head=FakeHead([view(opened=NOW - 7800)]))
    assert "(2 h 10 min)" in call("status").stdout
