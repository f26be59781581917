"""From mpirun to all workers ready, and to the end: dask-hpc and dask-mpi 2026.3.0 in turn.

    sudo testbeds/mpi-up.sh
    sudo python3 benchmarks/mpi.py [--pairs 5] [--ranks 8,16,32] [--mpi mpich] [--json FILE]

Each try is a fresh ``mpirun -np N dask-mpi --scheduler-file F`` of the ordinary user alice, each
side with its defaults (the peer's without TLS, ours with; both have bokeh for the dashboard).  One
rank is the scheduler, so that N ranks are N - 1 workers; ``--inclusive`` makes it N.  A client that
is started before, and whose CPU is not counted, connects when the scheduler file is there, waits
until all workers have registered, and shuts the cluster down.

up        seconds from starting mpirun until all workers have registered
whole     seconds from starting mpirun until mpirun has returned
CPU       CPU-seconds of mpirun and of every process that it ever had: cgroup cpuacct (v1) counts
          those that have exited too; where it is missing, what the kernel gives to who waits for
          mpirun (RUSAGE_CHILDREN), which misses orphans
code      exit code of mpirun, after Client.shutdown()

Pairs alternate in order; one try per side before the first pair warms the page cache.  Ratios are
peer over ours: how many times better we are.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BED = Path(os.environ.get("TESTBED_DIR", "/var/tmp/testbeds"))
CGROUP = Path("/sys/fs/cgroup/cpuacct/dask-hpc-benchmark")
USER = "alice"
PEER = "dask-mpi==2026.3.0"
SIDES = ("ours", "peer")
LIMIT = 180.0
FIGURES = ("up", "whole", "cpu")
MPIRUN = {
    "mpich": ["{bed}/mpich/bin/mpirun"],
    "openmpi": ["{bed}/openmpi/bin/mpirun", "--map-by", ":OVERSUBSCRIBE"],
}


@dataclass(frozen=True)
class Try:
    """What one launch cost: seconds, CPU-seconds, and how it ended."""

    side: str
    up: float
    whole: float
    cpu: float
    code: int


# ---- inside: the client, as the user -------------------------------------------------------------


def run_client(file: str, workers: int) -> None:
    """Import, say so, wait for the file, connect, wait for the workers, say when, shut down."""
    from distributed import Client

    print("ready", flush=True)
    deadline = time.monotonic() + LIMIT
    while not Path(file).exists() or not Path(file).stat().st_size:
        if time.monotonic() > deadline:
            raise SystemExit("no scheduler file")
        time.sleep(0.02)
    with Client(scheduler_file=file, timeout=60) as client:
        while len(client.scheduler_info(n_workers=-1)["workers"]) < workers:
            if time.monotonic() > deadline:
                raise SystemExit("not all workers came")
            time.sleep(0.02)
        print(time.time(), flush=True)
        client.shutdown()


# ---- outside -------------------------------------------------------------------------------------


def as_user(*command: str | Path) -> list[str]:
    home = pwd.getpwnam(USER).pw_dir
    clean = ["env", "-i", f"HOME={home}", f"USER={USER}", "PATH=/usr/bin:/bin", "LANG=C.UTF-8"]
    return ["runuser", "-u", USER, "--", *clean, *map(str, command)]


def counted(command: list[str]) -> list[str]:
    """Run in a cgroup of its own, where there are such."""
    if not CGROUP.parent.exists():
        return command
    CGROUP.mkdir(exist_ok=True)
    return ["sh", "-c", f'echo $$ >{CGROUP}/cgroup.procs; exec "$@"', "sh", *command]


def cpu_seconds() -> float:
    """CPU-seconds of all launches so far."""
    usage = CGROUP / "cpuacct.usage"
    if usage.exists():
        return int(usage.read_text()) / 1e9
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def left_behind(word: str) -> str:
    return subprocess.run(
        ["pgrep", "-u", USER, "-af", word], capture_output=True, text=True, check=False
    ).stdout


def measure(work: Path, mpi: str, side: str, ranks: int, *, inclusive: bool) -> Try:
    file = work / "scheduler.json"
    file.unlink(missing_ok=True)
    venv = BED / "mpi" / mpi
    workers = ranks if inclusive else ranks - 1
    client = subprocess.Popen(
        as_user(venv / "bin/python", work / "mpi.py", "--client", file, str(workers)),
        stdout=subprocess.PIPE,
        text=True,
        cwd=work,
    )
    assert client.stdout is not None
    client.stdout.readline()
    program = venv / "bin" / ("dask-mpi" if side == "ours" else "dask-mpi-peer")
    mpirun = [part.format(bed=BED / "mpi") for part in MPIRUN[mpi]]
    options = ["--inclusive-workers"] if inclusive else []
    command = [*mpirun, "-np", str(ranks), program, "--scheduler-file", file, *options]
    command = counted(as_user("timeout", str(int(LIMIT)), *command))
    before, began = cpu_seconds(), time.time()  # the client is a child that nobody has waited for
    with (work / "log").open("w") as log:
        code = subprocess.run(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=work,
            check=False,
        ).returncode
    whole, cpu = time.time() - began, cpu_seconds() - before
    said = client.communicate(timeout=LIMIT)[0].strip()
    if not said:
        raise SystemExit(f"{side}: the workers did not come\n{(work / 'log').read_text()[-3000:]}")
    if left := left_behind(str(file)):
        raise SystemExit(f"{side} left behind:\n{left}")
    return Try(side, float(said) - began, whole, cpu, code)


def prepare() -> None:
    """Install the peer beside us, its command under another name."""
    for mpi in MPIRUN:
        venv = BED / "mpi" / mpi
        if not venv.exists():
            raise SystemExit("needs root and testbeds/mpi-up.sh")
        target = venv / "peer"
        if not (target / "dask_mpi").exists():
            pip = [venv / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "install", "--no-deps", "--target", target, PEER], check=True)
        command = venv / "bin/dask-mpi-peer"
        command.write_text(
            f"#!{venv}/bin/python\nimport sys\nsys.path.append({str(target)!r})\n"
            "from dask_mpi.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
        )
        command.chmod(0o755)


def show(one: Try, label: str) -> None:
    figures = "".join(f"{getattr(one, name):>9.2f}" for name in FIGURES)
    print(f"{label:>10}  {one.side:5}{figures}{one.code:>6}", flush=True)


def summary(tries: list[Try]) -> dict[str, dict[str, object]]:
    """Median, least and most of each figure per side; ratio of medians and of each pair."""
    result: dict[str, dict[str, object]] = {}
    for name in FIGURES:
        values = {side: [getattr(t, name) for t in tries if t.side == side] for side in SIDES}
        row: dict[str, object] = {
            side: [statistics.median(found), min(found), max(found)]
            for side, found in values.items()
        }
        row["ratio of medians"] = row["peer"][0] / row["ours"][0]
        row["ratio per pair"] = [
            peer / ours for ours, peer in zip(values["ours"], values["peer"], strict=True)
        ]
        result[name] = row
    return result


def compare(work: Path, mpi: str, ranks: int, pairs: int, *, inclusive: bool) -> dict[str, object]:
    print(f"{mpi} {ranks:>3}  side " + "".join(f"{name:>9}" for name in FIGURES) + "  code")
    for side in SIDES:
        show(measure(work, mpi, side, ranks, inclusive=inclusive), "warm-up")
    tries: list[Try] = []
    for pair in range(pairs):
        for side in SIDES if pair % 2 == 0 else reversed(SIDES):
            tries.append(measure(work, mpi, side, ranks, inclusive=inclusive))
            show(tries[-1], f"pair {pair + 1}")
    figures = summary(tries)
    print(f"\n{mpi}, {ranks} ranks: median (least to most)")
    for name, row in figures.items():
        parts = [
            f"{side} {row[side][0]:.2f} ({row[side][1]:.2f} to {row[side][2]:.2f})"
            for side in SIDES
        ]
        each = " ".join(f"{ratio:.1f}" for ratio in row["ratio per pair"])
        print(
            f"  {name:6} {'   '.join(parts)}   ratio {row['ratio of medians']:.1f} (pairs {each})"
        )
    print(flush=True)
    return {"tries": [asdict(one) for one in tries], "summary": figures}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--ranks", default="8,16,32")
    parser.add_argument("--mpi", default="mpich", choices=list(MPIRUN))
    parser.add_argument("--inclusive", action="store_true", help="the scheduler's rank works too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--client", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    if chosen.client:
        run_client(chosen.client[0], int(chosen.client[1]))
        return
    if os.geteuid() != 0:
        raise SystemExit("needs root and testbeds/mpi-up.sh")
    prepare()
    print(
        f"load before: {os.getloadavg()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    )
    user = pwd.getpwnam(USER)
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="mpi-", dir=user.pw_dir) as name:
        work = Path(name)
        (work / "mpi.py").write_bytes(Path(__file__).read_bytes())
        for one in (work, work / "mpi.py"):
            os.chown(one, user.pw_uid, user.pw_gid)
        for ranks in map(int, chosen.ranks.split(",")):
            results[str(ranks)] = compare(
                work, chosen.mpi, ranks, chosen.pairs, inclusive=chosen.inclusive
            )
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
