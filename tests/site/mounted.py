"""Real file systems for the tests of storage: mounted by root, gone at the end of the test."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.helpers import wait_until

GIB = 1 << 30
_WRITES = re.compile(r"(?:pwrite64|write|pwritev|splice)\(.*= (\d+)$")


def run(*argv: str | Path) -> None:
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"


class Mounts:
    """Mounts below a directory."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack

    def _mount(self, name: str, *arguments: str | Path) -> Path:
        point = self._directory / name
        point.mkdir()
        run("mount", *arguments, point)
        self._stack.callback(run, "umount", "--lazy", point)
        return point

    def tmpfs(self) -> Path:
        return self._mount("tmpfs", "-t", "tmpfs", "-o", "size=4g", "tmpfs")

    def image(self, name: str, kind: str, size: int = 2 * GIB, where: Path | None = None) -> Path:
        """A file system in a sparse file, mounted."""
        file = (where or self._directory) / f"{name}.image"
        with file.open("wb") as image:
            image.truncate(size)
        run(f"mkfs.{kind}", *(["-q", "-m", "0"] if kind == "ext4" else ["-q"]), file)
        return self._mount(name, "-o", "loop", file)

    def full(self) -> Path:
        """All but a MiB of it is taken."""
        point = self.image("full", "ext4", GIB)
        run("fallocate", "-l", str(shutil.disk_usage(point).free - (1 << 20)), point / "taken")
        return point

    def read_only(self) -> Path:
        point = self.image("frozen", "ext4")
        run("mount", "-o", "remount,ro", point)
        return point

    def quota(self) -> Path:
        """Room enough, but not for us: a subvolume that may hold 100 MB."""
        point = self.image("limited", "btrfs", 4 * GIB)
        run("btrfs", "quota", "enable", point)
        run("btrfs", "subvolume", "create", point / "mine")
        run("btrfs", "qgroup", "limit", "100M", point / "mine")
        return point / "mine"

    def overlay(self, upper: Path) -> Path:
        for name in ("upper", "work"):
            (upper / name).mkdir()
        options = f"lowerdir={self._directory},upperdir={upper}/upper,workdir={upper}/work"
        return self._mount("overlay", "-t", "overlay", "-o", options, "overlay")

    def fuse(self) -> tuple[Path, psutil.Process]:
        """What a program serves, as sshfs is: each write goes through it, where it is counted."""
        behind, point = self._directory / "behind", self._directory / "served"
        behind.mkdir()
        point.mkdir()
        server = subprocess.Popen(["bindfs", "-f", str(behind), str(point)])
        self._stack.callback(server.wait, 20)
        self._stack.callback(run, "umount", "--lazy", point)
        wait_until(point.is_mount)
        return point, psutil.Process(server.pid)


@contextmanager
def mounts(directory: Path) -> Iterator[Mounts]:
    with ExitStack() as stack:
        yield Mounts(directory, stack)


class Traffic:
    """What went through a served file system, by the system calls of its server."""

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def written(self) -> int:
        """Bytes."""
        found = (_WRITES.search(line) for line in self._lines() if "/dev/fuse>" not in line)
        return sum(int(match[1]) for match in found if match)

    def opened(self, part: str) -> list[str]:
        """Calls that name a path with this part in it."""
        return [line for line in self._lines() if part in line]

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()


@contextmanager
def watched(server: psutil.Process, log: Path) -> Iterator[Traffic]:
    calls = "openat,creat,mkdir,mkdirat,rename,write,pwrite64,pwritev,splice"
    command = ["strace", "-f", "-qq", "-y", "-s", "200", "-e", f"trace={calls}", "-o", str(log)]
    with subprocess.Popen([*command, "-p", str(server.pid)]) as strace:
        status = Path(f"/proc/{server.pid}/status")
        wait_until(lambda: "TracerPid:\t0" not in status.read_text())
        try:
            yield Traffic(log)
        finally:
            strace.terminate()
