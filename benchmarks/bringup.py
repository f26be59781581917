"""Bring up workers through Slurm: dask-hpc and dask-jobqueue 0.9.0 in turn, on one machine.

    sudo testbeds/slurm-up.sh
    sudo python3 benchmarks/bringup.py [--pairs 5] [--shapes 4x8,32x1] [--strace] [--json FILE]

Each try is a fresh process of the ordinary user alice on the login host of the Slurm test bed.  It
makes a cluster with the side's defaults (the peer's without TLS, ours with), scales to a shape (4x8
is 4 jobs of 8 workers of 1 thread) and waits until every worker has registered.  This program, as
root, only watches from outside:

wall      seconds from constructing the cluster until all workers have registered (whole), and of
          that from the call of scale (scale); imports are done before
CPU       CPU-seconds of all processes on all hosts of the bed, slurmd's among them, from the start
          of the try's process until it has ended and no process of its jobs is left: cgroup
          cpuacct (v1) counts those that have exited too.  slurmctld is not among them.
CPU up    the same, until all workers had registered
PSS       MiB per worker: memory of all processes of the jobs, shared pages divided
calls     commands of Slurm that the try ran, close included
files     --strace: opens and stats by name per worker until all of one job of 8 had registered,
          /proc, /sys and /dev left out

Pairs alternate in order; one try per side before the first pair warms the page cache.  Ratios are
peer over ours: how many times better we are.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BED = Path(os.environ.get("TESTBED_DIR", "/var/tmp/testbeds"))
CGROUP = Path("/sys/fs/cgroup/cpuacct")
USER, HOST = "alice", "login"
PEER = "dask-jobqueue==0.9.0"
SIDES = ("ours", "peer")
COMMANDS = ("sbatch", "scancel", "squeue", "sacct", "scontrol", "sinfo")
LIMIT = 300.0  # seconds that one try may take to bring its workers up
FIGURES = ("whole", "scale", "cpu", "cpu_up", "pss")


@dataclass(frozen=True)
class Try:
    """What one bring-up cost: seconds, CPU-seconds, MiB per worker, calls by command."""

    side: str
    whole: float
    scale: float
    cpu: float | None
    cpu_up: float | None
    pss: float | None
    calls: dict[str, int]


# ---- inside: the try itself, as the user ---------------------------------------------------------


def make_cluster(side: str, workers: int, shebang: str | None):
    """Return a function that constructs the side's cluster; its imports are done here."""
    request = {
        "cores": workers,
        "processes": workers,
        "memory": f"{workers * 400} MiB",
        "walltime": "00:10:00",
    }
    if shebang:
        request["shebang"] = shebang
    if side == "peer":
        import warnings

        warnings.simplefilter("ignore")
        from dask_jobqueue import SLURMCluster

        return lambda: SLURMCluster(**request)
    from dask_hpc import HPCCluster

    return lambda: HPCCluster(batch="slurm", name=f"bench-{os.getpid()}", **request)


def run_try(side: str, jobs: int, workers: int, shebang: str | None) -> None:
    """Bring up, say so on standard output, wait for a line, close."""
    construct = make_cluster(side, workers, shebang)
    start = time.monotonic()
    with construct() as cluster:
        scale = time.monotonic()
        cluster.scale(jobs=jobs)
        cluster.wait_for_workers(jobs * workers, timeout=LIMIT)
        up = time.monotonic()
        print(json.dumps({"whole": up - start, "scale": up - scale}), flush=True)
        sys.stdin.readline()


# ---- outside: what it costs, as root -------------------------------------------------------------


def hosts() -> list[Path]:
    return sorted(CGROUP.glob("tb_*"))


def cpu_seconds() -> float | None:
    """CPU-seconds that all processes of all hosts have ever used, or None without cpuacct."""
    usages = [int((host / "cpuacct.usage").read_text()) for host in hosts()]
    return sum(usages) / 1e9 if usages else None


def job_processes() -> list[int]:
    """Processes of the user on the compute nodes."""
    owner = pwd.getpwnam(USER).pw_uid
    pids = []
    for host in hosts():
        if host.name == f"tb_{HOST}":
            continue
        for pid in (host / "cgroup.procs").read_text().split():
            try:
                if Path("/proc", pid).stat().st_uid == owner:
                    pids.append(int(pid))
            except FileNotFoundError:
                continue
    return pids


def pss_mib() -> float | None:
    total = 0
    for pid in job_processes():
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found = re.search(r"^Pss: +(\d+) kB", rollup, re.MULTILINE)
        total += int(found[1]) if found else 0
    return total / 1024 or None


def queue() -> str:
    return subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout


def wait_until_gone(*, patience: float = 90) -> None:
    """Until neither the queue nor a node holds anything of the user's."""
    deadline = time.monotonic() + patience
    while job_processes() or USER in queue():
        if time.monotonic() > deadline:
            raise SystemExit(f"left behind after {patience:.0f} s:\n{queue()}{job_processes()}")
        time.sleep(0.2)


@contextmanager
def work_directory():
    """A directory of the user's, seen on all hosts, with this script and the counting commands."""
    user = pwd.getpwnam(USER)
    path = Path(tempfile.mkdtemp(prefix="bringup-", dir=user.pw_dir))
    try:
        shutil.copy(__file__, path / "bringup.py")
        (path / "bin").mkdir()
        for command in COMMANDS:
            script(
                path / "bin" / command, f"echo {command} >>{path}/calls", f'/usr/bin/{command} "$@"'
            )
        script(
            path / "traced-bash",
            "umask 022",
            "strace -f -qq -e trace=open,openat,openat2,stat,lstat,newfstatat,statx"
            f' -o {path}/trace.$$ /bin/bash "$@"',
        )
        for one in (path, *path.rglob("*")):
            os.chown(one, user.pw_uid, user.pw_gid)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def script(path: Path, before: str, command: str) -> None:
    path.write_text(f"#!/bin/sh\n{before}\nexec {command}\n")
    path.chmod(0o755)


@contextmanager
def running_try(work: Path, venv: Path, *arguments: str):
    """Start a try as the user; yield it and what it said when all workers had registered."""
    (work / "calls").unlink(missing_ok=True)
    search = f"{work}/bin:{venv}/bin:/usr/local/bin:/usr/bin:/bin"
    command = [BED / "on-host", "-u", USER, HOST, venv / "bin/python", work / "bringup.py"]
    environment = {"PATH": os.defpath + ":/usr/sbin:/sbin", "HOST_PATH": search, "LANG": "C.UTF-8"}
    with (
        (work / "errors").open("w+") as errors,
        subprocess.Popen(
            [*command, "--try", *arguments],
            cwd=work,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        said = process.stdout.readline()
        if not said.startswith("{"):
            process.wait()
            errors.seek(0)
            raise SystemExit(f"{arguments} failed:\n{said}{errors.read()[-4000:]}")
        yield process, json.loads(said)


def measure(work: Path, venv: Path, side: str, jobs: int, workers: int) -> Try:
    before = cpu_seconds()
    with running_try(work, venv, side, str(jobs), str(workers)) as (process, wall):
        up = cpu_seconds()
        pss = pss_mib()
        process.communicate("done\n", timeout=120)
    wait_until_gone()
    after = cpu_seconds()
    calls = work / "calls"
    return Try(
        side,
        **wall,
        cpu=None if before is None else after - before,
        cpu_up=None if before is None else up - before,
        pss=pss and pss / (jobs * workers),
        calls=dict(Counter(calls.read_text().split() if calls.exists() else [])),
    )


def count_files(work: Path, venv: Path, side: str, workers: int) -> dict[str, float]:
    """Opens and stats by name per worker of one job, until its workers have registered."""
    for old in work.glob("trace.*"):
        old.unlink()
    with running_try(work, venv, side, "1", str(workers), str(work / "traced-bash")) as (
        process,
        _,
    ):
        text = "".join(one.read_text(errors="replace") for one in work.glob("trace.*"))
        process.communicate("done\n", timeout=120)
    wait_until_gone()
    # an empty name is a file that is open already
    named = re.findall(r'^\d+ +(\w+)\((?:\w+, )?"(?!/proc/|/sys/|/dev/|")', text, re.MULTILINE)
    opened = sum(name.startswith("open") for name in named)
    return {"opened": opened / workers, "stat'ed": (len(named) - opened) / workers}


# ---- the report ----------------------------------------------------------------------------------


def show(tries: list[Try], label: str) -> None:
    for one in tries:
        figures = "".join(
            f"{'-' if (value := getattr(one, name)) is None else format(value, '.2f'):>9}"
            for name in FIGURES
        )
        calls = " ".join(f"{name} {count}" for name, count in sorted(one.calls.items()))
        print(f"{label:>8}  {one.side:5}{figures}   {calls}", flush=True)


def summary(tries: list[Try]) -> dict[str, dict[str, object]]:
    """Median, least and most of each figure per side; ratio of medians and of each pair."""
    result: dict[str, dict[str, object]] = {}
    for name in FIGURES:
        values = {
            side: [
                value
                for one in tries
                if one.side == side and (value := getattr(one, name)) is not None
            ]
            for side in SIDES
        }
        row: dict[str, object] = {
            side: [statistics.median(found), min(found), max(found)]
            for side, found in values.items()
            if found
        }
        if len(row) == len(SIDES):
            row["ratio of medians"] = row["peer"][0] / row["ours"][0]
            row["ratio per pair"] = [
                peer / ours for ours, peer in zip(values["ours"], values["peer"], strict=True)
            ]
        result[name] = row
    return result


def show_summary(shape: str, figures: dict[str, dict[str, object]]) -> None:
    print(f"\n{shape}: median (least to most)")
    for name, row in figures.items():
        parts = [
            f"{side} {row[side][0]:.2f} ({row[side][1]:.2f} to {row[side][2]:.2f})"
            for side in SIDES
            if side in row
        ]
        if "ratio of medians" in row:
            pairs = " ".join(f"{ratio:.1f}" for ratio in row["ratio per pair"])
            parts.append(f"ratio {row['ratio of medians']:.1f} (pairs {pairs})")
        print(f"  {name:7} {'   '.join(parts)}")
    print()


def compare(
    work: Path, venv: Path, shape: str, sides: tuple[str, ...], pairs: int
) -> dict[str, object]:
    jobs, workers = map(int, shape.split("x"))
    print(f"{shape:>8}  {'side':5}" + "".join(f"{name:>9}" for name in FIGURES) + "   calls")
    for side in sides:
        show([measure(work, venv, side, jobs, workers)], "warm-up")
    tries: list[Try] = []
    for pair in range(pairs):
        for side in sides if pair % 2 == 0 else reversed(sides):
            tries.append(measure(work, venv, side, jobs, workers))
            show(tries[-1:], f"pair {pair + 1}")
    figures = summary(tries)
    show_summary(shape, figures)
    return {"tries": [asdict(one) for one in tries], "summary": figures}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--shapes", default="4x8,32x1", help="JOBSxWORKERS, ...; empty for none")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--strace", action="store_true", help="count files too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--busy", action="store_true", help="run beside other jobs of the bed")
    parser.add_argument("--try", nargs="+", dest="arguments", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    if chosen.arguments:
        side, jobs, workers, *shebang = chosen.arguments
        run_try(side, int(jobs), int(workers), f"#!{shebang[0]}" if shebang else None)
        return
    if os.geteuid() != 0 or not (BED / "on-host").exists():
        raise SystemExit("needs root and the Slurm test bed: testbeds/slurm-up.sh")
    if queue() and not chosen.busy:
        raise SystemExit(f"the queue is not empty (--busy to go on):\n{queue()}")
    if chosen.busy:
        print("beside other jobs: CPU and PSS include theirs, and no figure is worth quoting")
    if not hosts():
        print("no cgroup v1 cpuacct here: no CPU-seconds and no memory")
    made = subprocess.run(
        [CHECKOUT / "testbeds/venv.sh", PEER], stdout=subprocess.PIPE, text=True, check=True
    )
    venv = Path(made.stdout.strip())
    sides = tuple(chosen.sides.split(","))
    results: dict[str, object] = {}
    with work_directory() as work:
        for shape in filter(None, chosen.shapes.split(",")):
            results[shape] = compare(work, venv, shape, sides, chosen.pairs)
        if chosen.strace:
            results["files"] = {side: count_files(work, venv, side, 8) for side in sides}
            for side, counts in results["files"].items():
                print(f"files per worker, 1x8, {side}: " + json.dumps(counts))
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
