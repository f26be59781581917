"""Look at this machine: Python, packages, network interfaces, limits, cores, memory, clock.

Reading only; what it means is judged elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

#: What has to be the same on both sides of a connection, and what most people use besides.
PACKAGES = (
    "dask",
    "distributed",
    "dask-hpc",
    "msgpack",
    "cloudpickle",
    "tornado",
    "toolz",
    "numpy",
    "pandas",
    "lz4",
)
#: Bridges of containers and virtual machines: they lead to this machine alone.
INNER = ("docker*", "br-*", "virbr*", "veth*", "cni*", "podman*", "lxc*", "lxdbr*")
LIMITS = ("NOFILE", "NPROC", "MEMLOCK", "AS", "STACK", "FSIZE")
#: Seconds that the import of the engine may take before it is given up.
IMPORT_SECONDS = 120.0

_SIOCGIFADDR = 0x8915
_ETHERNET = 1  # ARPHRD_ETHER of linux/if_arp.h
_ROUTED = ("192.0.2.1", 9)  # TEST-NET-1 of RFC 5737: nothing is ever sent there


def look() -> dict[str, Any]:
    """Everything that is looked at at once; seconds, bytes."""
    return {
        "host": socket.gethostname().partition(".")[0],
        "user": os.getuid(),
        "time": time.time(),
        "python": python(),
        "packages": packages(),
        "import": import_time(),
        "interfaces": interfaces(),
        "routed": routed(),
        "limits": {name: limit(name) for name in LIMITS},
        "cores": cores(),
        "memory": memory(),
    }


def python() -> dict[str, str]:
    """Which interpreter this is."""
    return {
        "version": ".".join(map(str, sys.version_info[:3])),
        "executable": os.path.realpath(sys.executable),
        "prefix": os.path.realpath(sys.prefix),
    }


def packages() -> dict[str, str]:
    """Version of each package; those that are not here are left out."""
    from importlib import metadata

    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def import_time() -> dict[str, Any]:
    """Seconds that a fresh interpreter takes to import the engine, or what it said instead."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import distributed"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not within {IMPORT_SECONDS:g} s"}
    except OSError as error:
        return {"error": str(error)}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        return {"error": last[0] if last else f"exit code {done.returncode}"}
    return {"seconds": time.monotonic() - started}


def interfaces() -> dict[str, dict[str, Any]]:
    """Each network interface but loopback: addresses, whether it is up, speed, type of hardware."""
    sixes = _addresses6()
    found = {}
    for _, name in socket.if_nameindex():
        if name == "lo":
            continue
        four = _address4(name)
        found[name] = {
            "addresses": ([four] if four else []) + sixes.get(name, []),
            "up": _read(f"/sys/class/net/{name}/operstate") not in ("down", "lowerlayerdown"),
            "speed": _number(_read(f"/sys/class/net/{name}/speed")),
            "hardware": _number(_read(f"/sys/class/net/{name}/type")) or _ETHERNET,
            "inner": any(fnmatchcase(name, pattern) for pattern in INNER),
        }
    return found


def _address4(name: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        request = struct.pack("256s", name.encode()[:15])
        try:
            answer = fcntl.ioctl(some.fileno(), _SIOCGIFADDR, request)
        except OSError:  # it has none
            return ""
    return socket.inet_ntoa(answer[20:24])


def _addresses6() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in _read("/proc/net/if_inet6").splitlines():
        digits, _, _, scope, _, name = line.split()
        if scope == "00":  # global: link-local ones need the name of an interface beside them
            packed = bytes.fromhex(digits)
            found.setdefault(name, []).append(socket.inet_ntop(socket.AF_INET6, packed))
    return found


def routed() -> str:
    """Address that packets to the world leave from: where workers listen if nobody says else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        try:
            some.connect(_ROUTED)
        except OSError:
            return ""
        return str(some.getsockname()[0])


def limit(name: str) -> list[int]:
    """The soft and the hard limit of a resource; -1 is none."""
    return list(resource.getrlimit(getattr(resource, f"RLIMIT_{name}")))


def cores() -> dict[str, Any]:
    """Cores that a worker here would see, who says so, and whether the batch system promised."""
    look, judge = _of_node("look", "snapshot", "limits"), _of_node("cores", "limits")
    if look and judge:
        return _written(judge(look()))
    return {"amount": len(os.sched_getaffinity(0)), "source": "the machine", "promised": False}


def memory() -> dict[str, Any]:
    """Bytes that a worker here would see, likewise."""
    look, judge = _of_node("look", "snapshot", "limits"), _of_node("memory", "memory", "limits")
    if look and judge:
        return _written(judge(look()))
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"amount": whole, "source": "the machine", "promised": False}


def _of_node(name: str, *homes: str) -> Callable[..., Any] | None:
    """A function of `dask_hpc.node`: what is installed here may be another version than ours."""
    for home in homes:
        try:
            found: Callable[..., Any] = getattr(import_module(f"dask_hpc.node.{home}"), name)
        except (ImportError, AttributeError):
            continue
        return found
    return None


def _written(share: Any) -> dict[str, Any]:
    return {"amount": share.amount, "source": share.source, "promised": share.promised}


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):  # a device that is down does not tell its speed
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
