"""Looking at a directory: what it is on, how much is free, whether we may write.

The edge of :mod:`.storage`: every function here may hang with its file system, so that callers use
:func:`within`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dask_hpc.node import filesystems
from dask_hpc.node.filesystems import FileSystem, Kind, Mount
from dask_hpc.node.kernel import read_file
from dask_hpc.node.storage import READ_ONLY, ROOM, Candidate, Look

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Bytes that are written to see whether that works.
_TRIAL = b"\0" * 65536
_STATFS_BYTES = 256  # struct statfs is 120 on the widest of Linux' machines
_USED_UP = {errno.ENOSPC: "no space is left", errno.EDQUOT: "your quota is used up"}
_SHORT = {errno.ENOSPC: "its free space is promised", errno.EDQUOT: "your quota leaves too little"}
#: Spilled results are pickles: who can put others in their place has his code run.
_ANYBODYS = "anyone may replace what is in it: all may write, and it has no sticky bit"
_FALLOC_FL_KEEP_SIZE = 1


def within(seconds: float, function: Callable[[], T]) -> T:
    """Call a function that may hang with its file system.

    Parameters
    ----------
    seconds
        How long it may take; then it is left behind, in a thread that does not keep the process.
    function
        What to call.

    Raises
    ------
    TimeoutError
        If it takes longer.
    """
    outcome: list[T] = []
    error: list[BaseException] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as caught:  # noqa: BLE001  (raised again below)
            error.append(caught)

    thread = threading.Thread(target=call, daemon=True, name="dask-hpc file system")
    thread.start()
    thread.join(seconds)
    if error:
        raise error[0]
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return outcome[0]


def look(candidate: Candidate, seconds: float) -> Look:
    """Look at a candidate; a file system that does not answer in time is a problem of its."""
    try:
        return within(seconds, lambda: _look(candidate))
    except TimeoutError as error:
        return Look(candidate=candidate, problem=f"its file system gave {error}")


def _look(candidate: Candidate) -> Look:
    path = candidate.path
    try:
        if candidate.may_make:
            os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103  (the path may be long gone)
        # With "/." an automounter mounts; without it O_PATH would see its empty place.
        descriptor = os.open(f"{path}/.", os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        return Look(candidate=candidate, problem=_words(error))
    try:
        system = _system(descriptor)
        space = os.fstatvfs(descriptor)
        mode = os.fstat(descriptor).st_mode
    except OSError as error:
        return Look(candidate=candidate, problem=_words(error))
    finally:
        os.close(descriptor)
    if space.f_flag & os.ST_RDONLY:
        return Look(candidate=candidate, system=system, problem=READ_ONLY)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return Look(candidate=candidate, system=system, problem=_ANYBODYS)
    free = space.f_bavail * space.f_frsize
    try:
        short = _try(path, reserve=ROOM if system.kind is Kind.DISK and free >= ROOM else 0)
    except OSError as error:
        problem = f"{system}, {_USED_UP.get(error.errno or 0, _words(error))}"
        return Look(candidate=candidate, system=system, problem=problem)
    return Look(candidate=candidate, system=system, free=free, short=short)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _try(path: str, *, reserve: int) -> str:
    """Write, and have room reserved; why there is none, if so."""
    file = tempfile.TemporaryFile(dir=path, prefix="dask-job-trial-")  # noqa: SIM115  (see below)
    try:
        os.write(file.fileno(), _TRIAL)
        # statvfs knows of no user's quota; a reservation does, and costs one extent.
        return _SHORT.get(_reserve(file.fileno(), reserve), "") if reserve else ""
    finally:
        # ext4 takes 40 ms to give the blocks back: nobody needs to wait for that.
        threading.Thread(target=file.close, daemon=True, name="dask-hpc trial").start()


def _reserve(descriptor: int, size: int) -> int:
    """Reserve blocks of a file without writing any; an errno, or 0.

    By fallocate(2) itself: where a file system has none, ``os.posix_fallocate`` would write.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if libc.fallocate(descriptor, _FALLOC_FL_KEEP_SIZE, 0, size) == 0:
        return 0
    return ctypes.get_errno()


# --- what it is on -------------------------------------------------------------------------------


def _system(descriptor: int) -> FileSystem:
    mounts = filesystems.parse(read_file("/proc/self/mountinfo"))
    number = _mount_number(descriptor)
    mount = next((each for each in mounts if each.number == number), None)
    overlay = mount is not None and filesystems.is_overlay(mount)
    return filesystems.classify(
        mount,
        _type_number(descriptor),
        mounts=mounts,
        backing=_backing(mount),
        block=mount is not None and Path("/sys/dev/block", mount.device).exists(),
        upper_seen=overlay and mount is not None and Path(upper_of(mount)).is_dir(),
        same=_same_disk(descriptor, mounts) if overlay else None,
    )


def upper_of(mount: Mount) -> str:
    """Upper layer of an overlay; a name that is nobody's where it tells none."""
    return filesystems.upper_layer(mount) or "/proc/self/nothing"


def _mount_number(descriptor: int) -> int | None:
    """Which mount an open file is on: exact, where paths have symbolic links and binds."""
    for line in read_file(f"/proc/self/fdinfo/{descriptor}").splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            return int(value)
    return None


def _type_number(descriptor: int) -> int:
    """``f_type`` of statfs(2), which Python does not show; 0 where there is none."""
    buffer = (ctypes.c_ulong * (_STATFS_BYTES // ctypes.sizeof(ctypes.c_ulong)))()
    try:
        failed = ctypes.CDLL(None).fstatfs(descriptor, ctypes.byref(buffer))
    except AttributeError:  # no such function: no Linux
        return 0
    return 0 if failed else buffer[0] & 0xFFFFFFFF  # the kernel's numbers have 32 bits


def _backing(mount: Mount | None) -> dict[str, str]:
    """Behind a loop device there is a file: "local" XFS in a file on Lustre is done at sites."""
    if mount is None or not mount.source.startswith("/dev/loop"):
        return {}
    name = mount.source.removeprefix("/dev/")
    file = read_file(f"/sys/block/{name}/loop/backing_file").strip()
    return {mount.source: file} if file else {}


def _same_disk(descriptor: int, mounts: list[Mount]) -> Mount | None:
    """A mount of the disk that an overlay writes to: statvfs of an overlay is its upper layer's.

    A container sees some files of its host bound (/etc/hosts): same size to the block, same disk.
    """
    space = os.fstatvfs(descriptor)
    wanted = (space.f_frsize, space.f_blocks, space.f_files)
    for mount in mounts:
        known = filesystems.classify(mount).kind
        if known is not Kind.DISK:  # it may hang, or tells nothing
            continue
        with contextlib.suppress(OSError):
            other = os.statvfs(mount.point)
            if (other.f_frsize, other.f_blocks, other.f_files) == wanted:
                return mount
    return None
