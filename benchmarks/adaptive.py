"""A load that comes and goes, on Slurm, with adapt(): dask-hpc and dask-jobqueue 0.9.0 in turn.

    sudo testbeds/slurm-up.sh
    sudo python3 benchmarks/adaptive.py [--pairs 2] [--bursts 8] [--seed 1] [--patience 10s]

Each try is a fresh process of the ordinary user alice on the login host of the test bed, with the
side's defaults and adapt(maximum_jobs=4), jobs of two workers.  The load is the same on both sides,
drawn from the seed: bursts of tasks of a second, with pauses between them.  What jobs there were is
Slurm's own record (sacct), but for how many we submitted, which is the highest that is told:

submitted   jobs
unstarted   of those, cancelled before they started
idle        core-seconds allocated to jobs in which no task ran: all, less the tasks' own seconds
first       seconds from the first burst until Slurm had the first job; Slurm records whole seconds
wall        seconds until the last burst was done
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BED = Path(os.environ.get("TESTBED_DIR", "/var/tmp/testbeds"))
PEER = "dask-jobqueue==0.9.0"
SIDES = ("ours", "peer")
FIGURES = ("submitted", "unstarted", "idle", "first", "wall")
TASK = 1.0  # seconds
LONGEST = 900


def bursts(seed: int, count: int) -> list[tuple[int, float]]:
    """Tasks of each burst, and seconds of the pause after it."""
    drawn = random.Random(seed)
    return [(drawn.randint(4, 60), drawn.uniform(2, 25)) for _ in range(count)]


# ---- inside: the try itself, as the user ---------------------------------------------------------


def task(number: int) -> int:
    time.sleep(TASK)
    return number


def run_try(side: str, name: str, seed: int, count: int, **adapt: str) -> None:
    """Run the load once; print when it began and what it took."""
    from distributed import Client, wait

    request = {"cores": 2, "processes": 2, "memory": "800 MiB", "walltime": "00:20:00"}
    if side == "peer":
        import warnings

        warnings.simplefilter("ignore")
        from dask_jobqueue import SLURMCluster

        cluster = SLURMCluster(job_name=name, **request)
    else:
        from dask_hpc import HPCCluster

        cluster = HPCCluster(batch="slurm", name=name, dashboard_port=0, **request)
    with cluster, Client(cluster) as client:
        cluster.adapt(maximum_jobs=4, **adapt)
        began, start = time.time(), time.monotonic()
        for tasks, pause in bursts(seed, count):
            wait(client.map(task, range(tasks), pure=False))
            done = time.monotonic()
            time.sleep(pause)
        told = {"began": began, "wall": done - start}
        if side == "ours":  # Slurm keeps no record of array elements cancelled as they waited
            told["submitted"] = cluster.report()["jobs_submitted"]
        print(json.dumps(told), flush=True)


# ---- outside: what it cost, by Slurm's record ----------------------------------------------------


def on_host(*words: str) -> str:
    """Run a command as the user on the login host."""
    python = BED / "venv" / "bin"
    prefix = ["env", "-i", f"HOST_PATH={python}:/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]
    prefix += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"TESTBED_DIR={BED}"]
    done = subprocess.run(
        [*prefix, str(BED / "on-host"), "-u", "alice", "login", *words],
        cwd="/home/alice",  # where the peer's jobs write their logs
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def measure(side: str, seed: int, count: int, patience: str | None) -> dict[str, float]:
    name = f"adaptive-{side}-{os.getpid()}-{time.time_ns() % 10**6}"
    program = BED / "checkout-adaptive.py"
    program.write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    words = on_host(
        str(BED / "venv" / "bin" / "python"),
        str(program),
        *("--try", side, name, str(seed), str(count)),
        *(("--patience", patience) if patience and side == "ours" else ()),
    )
    told = json.loads(words.splitlines()[-1])
    rows = _jobs(name)
    allocated = sum((end - start) * cpus for _, start, end, cpus in rows if start and end)
    tasks = sum(tasks for tasks, _ in bursts(seed, count))
    submitted = max(told.get("submitted", 0), len(rows))
    return {
        "submitted": submitted,
        "unstarted": submitted - sum(start is not None for _, start, _, _ in rows),
        "idle": allocated - tasks * TASK,
        "first": min(submitted for submitted, *_ in rows) - told["began"],
        "wall": told["wall"],
    }


def _jobs(name: str) -> list[tuple[float, float | None, float | None, int]]:
    """Of each job of the try: submitted, started, ended (or None), CPUs."""
    deadline = time.monotonic() + 60
    while True:
        text = on_host(
            *("env", "SLURM_TIME_FORMAT=%s", "sacct", "-X", "-n", "-P", "-S", "now-1hours"),
            "--format=JobName,Submit,Start,End,AllocCPUS,State",
        )
        lines = [line.split("|") for line in text.splitlines() if line.startswith(name)]
        over = all(line[3].isdecimal() for line in lines)
        if (lines and over) or time.monotonic() > deadline:
            return [
                (float(line[1]), _instant(line, 2), _instant(line, 3), int(line[4] or 0))
                for line in lines
            ]
        time.sleep(2)


def _instant(line: list[str], field: int) -> float | None:
    """A time of the record; a job that never started has a start of its end, and no CPUs."""
    if field == 2 and not int(line[4] or 0):
        return None
    return float(line[field]) if line[field].isdecimal() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--bursts", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", help="of ours, where it is not its default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--try", dest="one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        side, name, seed, count = given.one
        adapt = {"patience": given.patience} if given.patience else {}
        run_try(side, name, int(seed), int(count), **adapt)
        return
    subprocess.run([CHECKOUT / "testbeds" / "venv.sh", PEER], check=True, stdout=subprocess.DEVNULL)
    tries: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for pair in range(given.pairs):
        for side in SIDES if pair % 2 == 0 else SIDES[::-1]:
            figures = measure(side, given.seed + pair, given.bursts, given.patience)
            tries[side].append(figures)
            words = "  ".join(f"{name} {figures[name]:.1f}" for name in FIGURES)
            print(f"pair {pair + 1}, {side}: {words}", flush=True)
    print(f"\n{'':10}{'ours':>10}{'peer':>10}   of each pair")
    for name in FIGURES:
        ours, peer = ([figures[name] for figures in tries[side]] for side in SIDES)
        pairs = ", ".join(f"{a:.1f}/{b:.1f}" for a, b in zip(ours, peer, strict=True))
        print(f"{name:10}{statistics.median(ours):10.1f}{statistics.median(peer):10.1f}   {pairs}")
    if given.json:
        given.json.write_text(json.dumps(tries, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
