"""Judge what one node has, beside the login node: Python, packages, limits, memory, disks, MPI.

Pure: reports in, findings out.  A report is what :mod:`.probe` writes; a node whose Python was
too old to look has few of its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_hpc.launch import pair, rank
from dask_hpc.node import filesystems
from dask_hpc.node.filesystems import Kind
from dask_hpc.site.doctor.asked import Asked, listing, used_interface, written
from dask_hpc.site.doctor.finding import Finding, ok, problem, rough, warning

Report = Mapping[str, Any]

#: Packages that have to be there and equal, or scheduler and workers misunderstand each other.
NEEDED = ("dask", "distributed", "dask-hpc")
#: Files: each other worker, the scheduler and the disk cost some; seen 1,913 for 1,000 workers.
FEW_FILES, ENOUGH_FILES = 1024, 4096
FEW_PROCESSES = 256
#: Seconds of `import distributed`: from a local disk it is a third of one.
SLOW_IMPORT, BAD_IMPORT = 10.0, 60.0
#: Bytes that a scratch directory should have, and that a log directory must.
LITTLE_ROOM, NO_ROOM = 1 << 30, 16 << 20
#: Small files a second below which a shared file system is called slow.
SLOW_FILES = 100.0
#: Where a directory for scratch is configured.
SCRATCH = "scratch= or local_directory="
_ROUNDING = 0.99


def python(login: Report, node: Report) -> Finding:
    """Judge whether a node runs the same Python."""
    ours, theirs = login["python"], node["python"]
    where = f"on {node['host']} {theirs['version']} of {theirs['prefix']}"
    seen = f"here {ours['version']} of {ours['prefix']}, {where}"
    advice = (
        "workers must run the environment that you run: see python= and job_script_prologue=,"
        " and that it lies on a file system that nodes see"
    )
    lacking = not set(NEEDED) <= set(node.get("packages", ()))
    if lacking or ours["version"].split(".")[:2] != theirs["version"].split(".")[:2]:
        return problem("python", seen, advice)
    if ours["prefix"] != theirs["prefix"] or ours["version"] != theirs["version"]:
        return warning("python", f"{seen}: another environment", advice)
    return ok("python", f"{ours['version']} of {ours['prefix']} on both sides")


def packages(login: Report, node: Report) -> Finding:
    """Judge whether packages are the same on both sides."""
    ours, theirs = login["packages"], node.get("packages", {})
    missing = [name for name in NEEDED if name not in theirs]
    if missing:
        return problem(
            "packages",
            f"{node['host']} lacks {', '.join(missing)}",
            "install them in the environment of the jobs, or name the right one: python=",
        )
    differ = [name for name in ours if ours[name] != theirs.get(name)]
    if not differ:
        return ok("packages", ", ".join(f"{name} {version}" for name, version in ours.items()))
    seen = "; ".join(
        f"{name} {ours[name]} here, {theirs.get(name, 'none')} on {node['host']}" for name in differ
    )
    advice = "let jobs run the environment that you run: python=, job_script_prologue="
    judge = problem if any(name in NEEDED for name in differ) else warning
    return judge("packages", seen, advice)


def import_time(node: Report) -> Finding:
    """Judge how long an interpreter takes to be ready there."""
    found, host = node.get("import", {}), node["host"]
    if "seconds" not in found:
        said = found.get("error", "its Python is too old")
        return problem(
            "import time",
            f"on {host}: import distributed: {said}",
            "the environment of the jobs is not complete: see python= and job_script_prologue=",
        )
    seen = f"import distributed: {found['seconds']:.1f} s on {host}"
    if found["seconds"] < SLOW_IMPORT:
        return ok("import time", seen)
    advice = "a shared file system serves it: keep the environment in a container or on local disk"
    return (warning if found["seconds"] < BAD_IMPORT else problem)("import time", seen, advice)


def interface(role: str, asked: str | None, report: Report) -> Finding:
    """Judge whether the interface that was asked for is there.

    Parameters
    ----------
    role
        ``"scheduler"`` or ``"workers"``.
    asked
        See :class:`~dask_hpc.site.doctor.asked.Asked`.
    report
        Of the machine.
    """
    name, host = used_interface(asked, report), report["host"]
    if name:
        found = written(report["interfaces"][name])
        return ok("interface", f"{role} on {host}: {name} ({found})")
    option = "scheduler_interface" if role == "scheduler" else "interface"
    if asked is None:
        return problem(
            "interface",
            f"{role} on {host}: no interface has a route; it has {listing(report)}",
            f"name one: {option}=",
        )
    return problem(
        "interface",
        f"{role} on {host}: no interface {asked!r} with an address; it has {listing(report)}",
        f"choose one of them: {option}=",
    )


def limits(report: Report) -> Finding:
    """Judge the limits of processes there."""
    found, host = report.get("limits", {}), report["host"]
    files, processes = found.get("NOFILE", [-1, -1]), found.get("NPROC", [-1, -1])
    locked, space = found.get("MEMLOCK", [-1]), found.get("AS", [-1])
    seen = (
        f"{host}: NOFILE {_limit(files[0])} of {_limit(files[1])}, NPROC {_limit(processes[0])},"
        f" MEMLOCK {_limit(locked[0], 1024)}, AS {_limit(space[0], 1024)}"
    )
    if 0 <= files[1] < FEW_FILES:
        return problem(
            "limits",
            f"{seen}: no more than {files[1]} open files",
            "ask the site for more, or look for `ulimit -n` in job_script_prologue and ~/.bashrc",
        )
    if 0 <= processes[0] < FEW_PROCESSES:
        return problem("limits", f"{seen}: too few processes and threads", "ask for a higher NPROC")
    if 0 <= files[1] < ENOUGH_FILES:
        return warning(
            "limits", f"{seen}: open files for some hundred workers", "ask the site for more"
        )
    return ok("limits", seen)


def _limit(value: int, unit: int = 1) -> str:
    if value < 0 or value >= 1 << 62:
        return "unlimited"
    return f"{value // unit} KiB" if unit > 1 else str(value)


def size(asked: Asked, report: Report) -> Finding:
    """Judge whether a job has the cores and the memory that it asked for."""
    cores, memory, host = report.get("cores", {}), report.get("memory", {}), report["host"]
    if not cores or not memory:
        return warning("cores and memory", f"{host}: not seen")
    seen = (
        f"{host}: {cores['amount']} cores ({cores['source']}),"
        f" {rough(memory['amount'])} ({memory['source']})"
    )
    lacking = []
    if cores["amount"] < asked.cores and not cores["promised"]:
        advice = "nothing tells a process there what the job has: see that the node is as large"
        seen = f"{seen}: {asked.cores} cores were asked for, and the batch system tells nothing"
        return warning("cores and memory", seen, advice)
    if cores["amount"] < asked.cores:
        lacking.append(f"{asked.cores} cores were asked for")
    if asked.memory and memory["amount"] < asked.memory * _ROUNDING:
        lacking.append(f"{rough(asked.memory)} were asked for")
    if lacking:
        return problem(
            "cores and memory",
            f"{seen}: {', '.join(lacking)}",
            "see what the site grants: job_cpu, job_mem, memory_resource and their like",
        )
    return ok("cores and memory", seen)


def disk(label: str, found: Report, host: str) -> Finding | None:
    """Judge one directory; None for a candidate that this site does not have.

    Parameters
    ----------
    label
        ``"scratch"`` for the one that is configured, ``"home"``, or the candidate as written.
    found
        See :func:`dask_hpc.site.doctor.probe.disks.look`.
    host
        Where it is.
    """
    if found.get("unset") and label != "scratch":
        return None
    name = label if label in ("scratch", "home") else f"scratch candidate {label}"
    judge = problem if label in ("scratch", "home") else warning
    where = f"{found['path']} on {host}"
    if "free" in found and found["free"] < NO_ROOM:
        kind = f" ({found['type']})" if "type" in found else ""
        seen = f"{where}{kind} is full: {rough(found['free'])} free"
        return judge(name, seen, f"free some, or name another: {SCRATCH}")
    if "error" in found:
        return judge(name, f"{where} cannot be used: {found['error']}", f"name another: {SCRATCH}")
    seen = (
        f"{where}: {found['type']}, {rough(found['free'])} free,"
        f" {found['files_per_second']:.0f} small files/s,"
        f" {found['bytes_per_second'] / (1 << 20):.0f} MiB/s"
    )
    if label == "home":
        return (
            warning(name, f"{seen}: slow", "keep logs and environments elsewhere")
            if found["files_per_second"] < SLOW_FILES
            else ok(name, seen)
        )
    kind = filesystems.by_name(found["type"]).kind
    if kind is Kind.NETWORK:
        return warning(name, f"{seen}: a network", "spilling there slows everybody down")
    if kind is Kind.MEMORY:
        return warning(name, f"{seen}: memory", "what is spilled there counts as memory")
    if found["free"] < LITTLE_ROOM:
        return warning(name, f"{seen}: little room", f"name another: {SCRATCH}")
    return ok(name, seen)


def mpi(node: Report) -> Finding:
    """Judge whether mpirun and mpi4py's library fit each other on a node."""
    found, host = node.get("mpi", {}), node["host"]
    if "missing" in found or not found:
        return ok("MPI pair", f"{host}: no {found.get('missing', 'Python')}: nothing to check")
    worlds = found["worlds"]
    if not worlds:
        return problem(
            "MPI pair",
            f"{host}: {found['mpirun']} -n 2 started no rank: {_last(found['text'])}",
            "start with the mpirun of the MPI that mpi4py is bound to"
            " (python -m mpi4py --mpi-lib-version)",
        )
    first = worlds[0]
    library = pair.Library(first["library"], first["path"])
    if len(worlds) == 2 and all(world["size"] == 2 for world in worlds):  # noqa: PLR2004
        return ok("MPI pair", f"{host}: {found['mpirun']} -n 2 is a world of 2 of {library}")
    told = rank.read(first["environ"])
    if told is not None and told.size:
        program, instead = found["mpirun"], f"worlds of {first['size']}"
        wrong = pair.wrong_pair(told, library, program, instead)
        return problem("MPI pair", f"{host}: {wrong.args[0]}", wrong.hint)
    return problem(
        "MPI pair",
        f"{host}: {found['mpirun']} -n 2 makes worlds of {first['size']}; mpi4py is bound to"
        f" {library}",
        f"start with the mpirun of {library.family}",
    )


def _last(text: str) -> str:
    return " ".join(text.split())[-200:] or "it said nothing"


def submission_from(node: Report) -> Finding:
    """Judge whether a job can ask the batch system, and so could submit jobs itself."""
    found, host = node.get("query"), node["host"]
    if found is None:
        return ok("batch system from a node", f"{host}: nothing to ask there")
    advice = (
        'a head in a job cannot submit from there: head_options={"submits": False}, or for good'
        " nodes_submit: false in your site (docs/outliving.md)"
    )
    if "error" in found:
        return warning("batch system from a node", f"{host}: {found['error']}", advice)
    if found["code"] != 0:
        said = found["text"] or f"exit code {found['code']}"
        return warning("batch system from a node", f"{host}: {_last(said)}", advice)
    return ok("batch system from a node", f"{host}: answers in {found['seconds']:.2f} s")
