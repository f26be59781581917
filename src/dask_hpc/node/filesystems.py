"""What a file system is: a disk of this node, its memory, or somebody else's disks over a network.

Names, numbers and the text of the mount table in, a kind out: nothing is read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Kind(StrEnum):
    """Where the bytes of a file go."""

    DISK = "local disk"
    MEMORY = "memory"
    NETWORK = "network"
    UNKNOWN = "no disk of this node"  # as far as can be seen: it may be the site's newest network


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Types as the mount table names them.  What is in no list, has no block device and so no disk of
#: this node behind it, is UNKNOWN, which is used as a network is: a new parallel file system must
#: not be flooded because this list is older than it.
_NETWORK = _words(
    "nfs nfs3 nfs4 lustre lustre_lite gpfs mmfs beegfs beegfs_ondemand fhgfs panfs ceph wekafs"
    " orangefs pvfs2 afs openafs yfs auristorfs cifs smb3 smbfs 9p virtiofs glusterfs coda ncpfs"
    " ocfs2 gfs gfs2 dvs daos dfuse mfs lizardfs ibrix snfs cvfs cxfs acfs vxfs quobyte davfs"
    " vboxsf vmhgfs"
)
_MEMORY = _words("tmpfs ramfs rootfs devtmpfs hugetlbfs")
_DISK = _words(
    "ext2 ext3 ext4 xfs btrfs zfs f2fs jfs reiserfs bcachefs nilfs2 fuseblk ntfs3 vfat exfat"
)
#: Numbers of statfs(2): its manual page, and what vendors put there (coreutils' stat knows these).
_NUMBERS = {
    0x6969: "nfs",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x19830326: "beegfs",
    0xAAD7AAEA: "panfs",
    0x00C36400: "ceph",
    0x20030528: "orangefs",
    0x5346414F: "afs",
    0x6B414653: "afs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb3",
    0x517B: "smbfs",
    0x01021997: "9p",
    0x7461636F: "ocfs2",
    0x01161970: "gfs2",
    0x73757245: "coda",
    0x564C: "ncpfs",
    0x013111A8: "ibrix",
    0xBEEFDEAD: "snfs",
    0x61636673: "acfs",
    0xA501FCF5: "vxfs",
    0x65735546: "fuse",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
    0x794C7630: "overlay",
}
_FUSE = 0x65735546
_OVERLAYS = ("overlay", "overlayfs", "aufs")
_OCTAL = re.compile(r"\\([0-7]{3})")
_FIELDS_BEFORE_OPTIONAL = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of ``/proc/self/mountinfo`` (proc(5)).

    Parameters
    ----------
    number
        Of the mount.
    device
        Major and minor number, as in ``"8:1"``.
    point, root
        Where it is mounted, and which of its directories is there.
    type, source
        As the kernel names them.
    options
        Of the file system.
    read_only
        Whether the mount or the file system is.
    """

    number: int
    device: str
    point: str
    type: str
    source: str
    root: str = "/"
    options: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system's type and kind."""

    type: str
    kind: Kind

    def __str__(self) -> str:
        return self.type if self.kind.value in self.type else f"{self.type}: {self.kind}"


def parse(text: str) -> list[Mount]:
    """Read the mount table; lines that are none are passed over."""
    return [mount for line in text.splitlines() if (mount := _parse_line(line))]


def _parse_line(line: str) -> Mount | None:
    before, separator, after = line.partition(" - ")
    fields, rest = before.split(" "), after.split(" ")
    if not separator or len(fields) < _FIELDS_BEFORE_OPTIONAL or len(rest) < 2:  # noqa: PLR2004
        return None
    number, device = fields[0], fields[2]
    if not number.isdecimal():
        return None
    options = rest[2] if len(rest) > 2 else ""  # noqa: PLR2004
    return Mount(
        number=int(number),
        device=device,
        point=_plain(fields[4]),
        type=rest[0],
        source=_plain(rest[1]),
        root=_plain(fields[3]),
        options=options,
        read_only="ro" in (*fields[5].split(","), *options.split(",")),
    )


def _plain(text: str) -> str:
    """Undo the kernel's escapes: blanks and the like are octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def holder(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Find the mount that holds an absolute path without symbolic links; of several the last."""
    found = None
    for mount in mounts:
        point = mount.point.rstrip("/")
        inside = path == mount.point or path.startswith(f"{point}/")
        if inside and (found is None or len(point) >= len(found.point.rstrip("/"))):
            found = mount
    return found


def classify(
    mount: Mount | None,
    number: int = 0,
    *,
    mounts: Sequence[Mount] = (),
    backing: Mapping[str, str] | None = None,
    block: bool = False,
    upper_seen: bool = False,
    same: Mount | None = None,
) -> FileSystem:
    """Say what a file system is.

    Parameters
    ----------
    mount
        Its line of the mount table; None where that cannot be read.
    number
        Its type as statfs(2) gives it, for where the table does not tell.
    mounts
        The whole table.
    backing
        The file behind each loop device.
    block
        Whether its numbers are those of a block device: a network's may be made up.
    upper_seen
        For an overlay: whether its upper layer is there under the name that the table has for it;
        in a container it is not.
    same
        For an overlay: a mount that is known to be of the same disk.

    Returns
    -------
    FileSystem
        A loop device is what its file lies on, an overlay what its upper layer lies on.
    """
    if mount is None:
        return by_name(_NUMBERS.get(number, f"type {number:#x}"))
    if is_overlay(mount):
        upper = holder(upper_layer(mount), mounts) if upper_seen else None
        return _overlay(mount, same or upper)
    device = mount.source.removeprefix("/dev/")
    if mount.source.startswith("/dev/") and re.fullmatch(r"z?ram\d+", device):
        return FileSystem(f"{mount.type} on {mount.source}", Kind.MEMORY)
    file = (backing or {}).get(mount.source)
    if file is not None and (below := holder(file, mounts)) not in (None, mount):
        assert below is not None  # noqa: S101
        return FileSystem(f"{mount.type} in a file on {below.type}", _by_mount(below).kind)
    return _by_mount(mount, number, block=block)


def upper_layer(mount: Mount) -> str:
    """Where an overlay puts what is written, in the names of whoever mounted it; or nothing."""
    layers = dict(option.partition("=")[::2] for option in mount.options.split(","))
    return layers.get("upperdir", "")


def _overlay(mount: Mount, below: Mount | None) -> FileSystem:
    if below is None or is_overlay(below):
        return FileSystem(f"{mount.type} over what cannot be seen", Kind.UNKNOWN)
    return FileSystem(f"{mount.type} over {below.type}", _by_mount(below).kind)


def is_overlay(mount: Mount) -> bool:
    """Whether it is one of the layered file systems that containers are made of."""
    return mount.type in _OVERLAYS


def _by_mount(mount: Mount, number: int = 0, *, block: bool = False) -> FileSystem:
    found = by_name(mount.type)
    if found.kind is not Kind.UNKNOWN:
        return found
    if block and number != _FUSE:
        return FileSystem(mount.type, Kind.DISK)
    told = by_name(_NUMBERS.get(number, ""))
    return found if told.kind is Kind.UNKNOWN else FileSystem(mount.type, told.kind)


def by_name(name: str) -> FileSystem:
    """Say what a file system is by its type, as the mount table names it, alone."""
    if name in _MEMORY:
        return FileSystem(name, Kind.MEMORY)
    if name in _DISK:
        return FileSystem(name, Kind.DISK)
    # Whatever a program serves (sshfs, dfuse, ceph-fuse, juicefs): it has no disk that we know of.
    if name in _NETWORK or name == "fuse" or name.startswith("fuse."):
        return FileSystem(name, Kind.NETWORK)
    return FileSystem(name, Kind.UNKNOWN)
