"""Jobs of one minute, renewed for ten: dask-hpc and dask-jobqueue 0.9.0 side by side on Slurm.

    sudo testbeds/slurm-up.sh
    sudo python3 benchmarks/renewal.py [--seconds 660] [--shape 4x1] [--sides ours,lifetime,plain]

Each side is a fresh process of the ordinary user alice on the login host of the test bed: 4 jobs of
1 worker (--shape) with a walltime of 1 minute, and tests/site/programs/churn.py, which feeds tasks
of 1.5 seconds, holds every result to the end, and holds scattered and persisted data besides.  All
run at the same time unless told --in-turn; the bed has room for all of them, so no job waits.  Jobs
of one worker by default, as the peer does not notice the end of a job that had several.

ours      scale(jobs=4)
lifetime  dask-jobqueue as its documentation advises against walltimes: adapt(minimum_jobs=4,
          maximum_jobs=4), --lifetime 45s --lifetime-stagger 4s
plain     dask-jobqueue with adapt(minimum_jobs=4, maximum_jobs=4) alone

jobs         by Slurm's own record (sacct), with the states in which they ended
generations  jobs for each that is wanted, the first included
executions   of tasks, counted by the tasks themselves in a file; rerun: beyond one for each task,
             and how many tasks were finished more than once
lost         results that the scheduler had and lost (the engine's own event), and scattered pieces
             that were not there at the end
capacity     share of the wanted workers that took tasks, looked at each second once all were there
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tests.site.chaos import verdict  # noqa: E402

BED = Path(os.environ.get("TESTBED_DIR", "/var/tmp/testbeds"))
PEER = "dask-jobqueue==0.9.0"
LIFETIME = ["--lifetime", "45s", "--lifetime-stagger", "4s"]
SIDES: dict[str, dict[str, Any]] = {
    "ours": {"side": "ours"},
    "lifetime": {"side": "peer", "adapt": True, "cluster": {"worker_extra_args": LIFETIME}},
    "plain": {"side": "peer", "adapt": True},
}


def on_host(*words: str) -> list[str]:
    """Command that runs words as the user on the login host."""
    python = BED / "venv" / "bin"
    prefix = ["env", "-i", f"HOST_PATH={python}:/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]
    prefix += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"TESTBED_DIR={BED}"]
    return [*prefix, str(BED / "on-host"), "-u", "alice", "login", *words]


def start(side: str, shape: tuple[int, int], seconds: float) -> tuple[str, subprocess.Popen[str]]:
    """Start one side; its name and its process."""
    name = f"renewal-{side}-{time.time_ns() % 10**8}"
    jobs, workers = shape
    wanted = {"name": name, "jobs": jobs, "workers": workers, "seconds": seconds, **SIDES[side]}
    program = BED / "checkout-churn.py"
    source = CHECKOUT / "tests" / "site" / "programs" / "churn.py"
    program.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    words = on_host(str(BED / "venv" / "bin" / "python"), str(program), json.dumps(wanted))
    errors = (BED / f"{name}.errors").open("w")
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        words, cwd="/home/alice", stdin=pipe, stdout=pipe, stderr=errors, text=True
    )
    return name, process


def finish(name: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the side told at its end, with Slurm's record of its jobs."""
    assert process.stdout is not None
    text = process.stdout.read()  # not communicate(): the program ends with its input
    process.wait()
    told = json.loads((text.splitlines() or ["{}"])[-1])
    if not told.get("ended"):
        raise SystemExit(f"{name} ended without a word; see {BED / name}.errors\n{text[-2000:]}")
    (BED / f"{name}.errors").unlink()
    return {**told, "states": dict(states(name))}


def states(name: str) -> Counter[str]:
    """How the jobs of a cluster ended, by Slurm's accounts, which may be late or not answer."""
    asked = ("sacct", "-X", "-n", "-P", "-S", "now-2hours", "--format=JobName,State")
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(on_host(*asked), capture_output=True, text=True, check=False)
        lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith(name)]
        found = Counter(state.split()[0] for _, state in lines)
        over = done.returncode == 0 and lines and not {"RUNNING", "PENDING"} & set(found)
        if over or time.monotonic() > deadline:
            return found
        time.sleep(2)


def row(told: dict[str, Any]) -> dict[str, str]:
    """The figures of one side, in words."""
    jobs, workers = told["options"]["jobs"], told["options"]["workers"]
    lost = verdict.results(told, [])
    computed = sum(loss.what == "computed" for loss in lost)
    share = verdict.capacity(told, jobs * workers)
    right = f"{told['scattered right']} of {told['scattered']}"
    ended = ", ".join(f"{count} {state}" for state, count in sorted(told["states"].items()))
    wrong = verdict.wrong(told)
    return {
        "generations": f"{sum(told['states'].values()) / jobs:.1f} in {told['seconds']:.0f} s",
        "jobs": f"{sum(told['states'].values())}: {ended}",
        "tasks": str(told["tasks"]),
        "executions rerun": str(told["executions"] - told["tasks"]),
        "tasks done more than once": str(len(told["recomputed"])),
        "results lost": str(computed),
        "scattered there at the end": right,
        "not finished, not right": str(sum(n for kind, n in wrong.items() if kind != "scattered")),
        "capacity, least": f"{share['least']:.0%}",
        "capacity, mean": f"{share['mean']:.1%}",
        "seconds under 90 %": f"{share['seconds under 90 %']:.0f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=660)
    parser.add_argument("--shape", default="4x1", help="JOBSxWORKERS of each")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--in-turn", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    sides = given.sides.split(",")
    jobs, workers = map(int, given.shape.split("x"))
    shape = (jobs, workers)
    subprocess.run([CHECKOUT / "testbeds" / "venv.sh", PEER], check=True, stdout=subprocess.DEVNULL)
    told: dict[str, dict[str, Any]] = {}
    if given.in_turn:
        for side in sides:
            told[side] = finish(*start(side, shape, given.seconds))
    else:
        started = {side: start(side, shape, given.seconds) for side in sides}
        told = {side: finish(*one) for side, one in started.items()}
    if given.json:
        given.json.write_text(json.dumps(told), encoding="utf-8")
    rows = {side: row(each) for side, each in told.items()}
    print(f"{'':28}" + "".join(f"{side:36}" for side in sides))
    for figure in rows[sides[0]]:
        print(f"{figure:28}" + "".join(f"{rows[side][figure]:36}" for side in sides))


if __name__ == "__main__":
    main()
