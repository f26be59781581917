"""The journal is never lost and never wrong."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.control.journal import Journal, Recorded, Remembered, read, remembered, submissions


def journal(path: Path) -> Path:
    book = Journal(path)
    book.append("opened", batch="slurm", host="login", pid=7)
    book.append("intended", name="c-1", pool="cpu", count=3)
    book.append("submitted", name="c-1", array="42")
    book.append("intended", name="c-2", pool="cpu", count=1)
    book.close()
    return path


def test_a_submission_is_known_before_and_after_its_id(tmp_path: Path) -> None:
    """An intention without an id is in doubt, not forgotten."""
    found = submissions(read(journal(tmp_path / "j")))
    assert found["c-1"] == Recorded("c-1", "cpu", 3, "42")
    assert found["c-2"].array is None
    assert not found["c-2"].over


def test_what_a_new_head_needs_is_remembered(tmp_path: Path) -> None:
    """What lives, since when, and what was wanted last; how long jobs have."""
    path = tmp_path / "j"
    book = Journal(path)
    book.append("opened", batch="slurm", at=0.5)
    book.append("intended", name="c-1", pool="cpu", count=3, walltime=60, at=1.0)
    book.append("submitted", name="c-1", array="42", at=2.0)
    book.append("intended", name="c-2", pool="cpu", count=1)
    book.append("submitted", name="c-2", array="43")
    book.append("intended", name="c-3", pool="cpu", count=8)
    book.append("refused", name="c-3")
    book.append("account", pools={}, over={"c-2": [0]})
    book.append("ended", name="c-2")
    book.append("opened", batch="slurm", at=4.5)
    book.append("started", jobs=[["c-1", 0, 5.0], ["c-2", 0, 6.0], ["c-0", 0, 7.0]])
    book.append("wanted", jobs={"cpu": 3}, adapting={})
    book.append("pool", name="gpu", options={"gpus": 1})
    book.append("started", jobs=[["c-1", 2, 8.0]])
    book.append("wanted", jobs={"cpu": 1}, adapting={"gpu": {"minimum": 0}})
    book.close()
    told = remembered(read(path))
    assert told == Remembered(
        left={
            "c-1": Recorded("c-1", "cpu", 3, "42", walltime=60, at=2.0, started={0: 5.0, 2: 8.0})
        },
        jobs={"cpu": 1},
        adapting={"gpu": {"minimum": 0}},
        pools={"gpu": {"gpus": 1}},
        opened=0.5,
        accounts=[{"event": "account", "pools": {}, "over": {"c-2": [0]}}],
        over={"cpu": 1},
    )


@pytest.mark.parametrize("event", ["refused", "absent", "ended"])
def test_what_is_over_needs_no_more_care(tmp_path: Path, event: str) -> None:
    """Refused, never made or ended: the journal says so."""
    path = journal(tmp_path / "j")
    book = Journal(path)
    book.append(event, name="c-2")  # type: ignore[arg-type]
    book.close()
    assert submissions(read(path))["c-2"].over


@given(cut=st.integers(1, 400))
def test_a_torn_last_line_costs_that_line_only(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """A crash in the middle of a write leaves every earlier event readable, and writing goes on."""
    path = journal(tmp_path_factory.mktemp("torn") / "j")
    whole = path.read_bytes()
    complete = whole[: max(0, len(whole) - cut)]
    path.write_bytes(complete)
    before = list(read(path))
    assert len(before) >= complete.count(b"\n")
    book = Journal(path)
    book.append("closed")
    book.close()
    assert list(read(path)) == [*before, {"event": "closed"}]


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask."""
    old = os.umask(0)
    try:
        path = journal(tmp_path / "j")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_is_an_error_before_the_submission(tmp_path: Path) -> None:
    """An event that the disk did not take raises, so that what it announces is not done."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from dask_hpc.control.journal import Journal\n"
        "book = Journal(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try:\n"
        "    book.append('intended', name='c-1', pool='cpu', count=1)\n"
        "except OSError as error:\n"
        "    print('refused', error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "j")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("refused")
    assert list(read(tmp_path / "j")) == []


def test_a_missing_journal_has_no_events(tmp_path: Path) -> None:
    """Nothing was submitted where nothing is written."""
    assert list(read(tmp_path / "none")) == []
