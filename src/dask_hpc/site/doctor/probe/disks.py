"""Look at directories: which file system, how much room, how fast small files are written.

What is written is a few MiB in a directory of our own of mode 0700, which is removed again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

#: Small files that are written, and their bytes; then one of a few MiB that is flushed.
FILES, FILE_BYTES, LARGE_BYTES = 50, 4096, 4 << 20
#: Seconds after which no further file is written.
ENOUGH = 5.0


def look(text: str) -> dict[str, Any]:
    """Look at a directory, its name as a job script would have it (``$TMPDIR/x``).

    Returns
    -------
    dict
        ``path``; ``error`` if it cannot be used; else ``type``, ``source``, ``free`` and ``total``
        bytes, ``files_per_second``, ``bytes_per_second``.
    """
    path = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111  (a variable first)
    found: dict[str, Any] = {"asked": text, "path": path}
    if "$" in path:
        return {**found, "error": "the variable is not set", "unset": True}
    existing = _existing(Path(path))
    try:
        space = os.statvfs(existing)
        found |= {
            "free": space.f_bavail * space.f_frsize,
            "total": space.f_blocks * space.f_frsize,
            **mount_of(existing),
        }
        found |= _write(existing)
    except OSError as error:
        found["error"] = error.strerror or str(error)
    return found


def _existing(path: Path) -> Path:
    """The directory, or the nearest one above it: a scratch directory is made when needed."""
    for each in (path, *path.parents):
        if each.exists():
            return each
    return path


def mount_of(path: Path) -> dict[str, str]:
    """Type and source of the file system of a path, by the mount table."""
    real = os.path.realpath(path)
    best = ("", "", "")
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as table:  # noqa: PTH123
        for line in table:
            source, point, kind = line.split()[:3]
            point = point.encode().decode("unicode_escape")
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):  # the later of two hides the earlier
                best = (point, kind, source)
    return {"type": best[1], "source": best[2]}


def _write(directory: Path) -> dict[str, Any]:
    own = Path(tempfile.mkdtemp(prefix="dask-hpc-doctor-", dir=directory))
    try:
        started = time.monotonic()
        written = 0
        for number in range(FILES):
            (own / str(number)).write_bytes(b"x" * FILE_BYTES)
            written += 1
            if time.monotonic() - started > ENOUGH:
                break
        small = time.monotonic() - started
        started = time.monotonic()
        with (own / "large").open("wb") as stream:
            stream.write(os.urandom(LARGE_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        large = time.monotonic() - started
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return {
        "files_per_second": written / max(small, 1e-6),
        "bytes_per_second": LARGE_BYTES / max(large, 1e-6),
    }
