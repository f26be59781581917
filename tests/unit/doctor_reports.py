"""Reports of healthy machines, for the doctor's tests to spoil."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

GIB = 1 << 30

_HEALTHY: dict[str, Any] = {
    "host": "node01",
    "name": "doctor-1-0",
    "time": 1000.0,
    "written": 1002.0,
    "port": 4711,
    "tls": "",
    "python": {"version": "3.11.2", "executable": "/usr/bin/python3.11", "prefix": "/env"},
    "packages": {"dask": "2026.8.0", "distributed": "2026.8.0", "dask-hpc": "1", "numpy": "2.4"},
    "import": {"seconds": 0.4},
    "interfaces": {
        "eth0": {
            "addresses": ["10.77.0.11"],
            "up": True,
            "speed": 1000,
            "hardware": 1,
            "inner": False,
        },
        "ib0": {
            "addresses": ["10.78.0.11"],
            "up": True,
            "speed": None,
            "hardware": 32,
            "inner": False,
        },
        "docker0": {
            "addresses": ["172.17.0.1"],
            "up": True,
            "speed": None,
            "hardware": 1,
            "inner": True,
        },
    },
    "routed": "10.77.0.11",
    "limits": {
        "NOFILE": [512, 1048576],
        "NPROC": [4096, 4096],
        "MEMLOCK": [-1, -1],
        "AS": [-1, -1],
    },
    "cores": {"amount": 4, "source": "SLURM_CPUS_PER_TASK", "promised": True},
    "memory": {"amount": 8 * GIB, "source": "the control group", "promised": True},
    "disks": {
        "/tmp": {
            "asked": "/tmp",
            "path": "/tmp",
            "free": 50 * GIB,
            "total": 100 * GIB,
            "type": "ext4",
            "source": "/dev/sda1",
            "files_per_second": 5000.0,
            "bytes_per_second": 2e8,
        }
    },
    "query": {"seconds": 0.02, "code": 0, "text": ""},
    "mpi": {"missing": "mpi4py"},
}


def report(host: str = "node01", **spoilt: Any) -> dict[str, Any]:
    """A healthy machine's report, with some of it replaced."""
    return {**deepcopy(_HEALTHY), "host": host, **spoilt}


def route(source: str, target: str, interface: str = "eth0", **more: Any) -> dict[str, Any]:
    """A route that was measured; with ``error=`` one that was not open."""
    known = {"source": source, "target": target, "interface": interface, "address": "10.77.0.9"}
    measured = {"round_trip": 0.0002, "bandwidth": 4e8, "ahead": 0.0}
    return {**known, **({} if "error" in more else measured), **more}
