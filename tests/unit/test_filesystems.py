"""What a file system is, by its line in the mount table and by statfs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.node import filesystems
from dask_hpc.node.filesystems import Kind, Mount

#: Lines as they are in public bug reports, logs and test data of other projects; Lustre and GPFS
#: have device numbers of their own making.
TABLE = r"""
22 1 8:1 / / rw,relatime shared:1 - xfs /dev/mapper/vg-root rw,attr2,inode64,noquota
23 22 0:21 / /dev/shm rw,nosuid,nodev shared:2 - tmpfs tmpfs rw,size=24684092k
24 22 259:1 / /local rw,relatime - ext4 /dev/nvme0n1p1 rw
25 22 0:22 / /run/user/1000/gvfs rw - fuse.gvfsd-fuse gvfsd-fuse rw,user_id=1000,group_id=1000
41 22 0:41 / /jet/home rw,relatime shared:21 - nfs4 srv:/home rw,vers=4.1,local_lock=none
42 22 0:42 / /data rw,relatime - nfs 10.0.0.2:/data rw,vers=3,rsize=1048576,hard,proto=tcp
263 22 2389:231328 / /ictstr01 rw shared:521 - lustre 10.11.1.16@o2ib:10.11.1.14@o2ib:/i rw,flock
43 22 0:36 / /exafs rw,relatime shared:18 - lustre 10.0.0.51@o2ib:/exafs rw,localflock
44 22 0:31 / /gpfs/scratch rw shared:2 - gpfs scratch rw
45 22 0:69 / /mnt/tmp\040beegfs rw,relatime shared:617 master:2 - beegfs beegfs_nodev rw,cfgFile=/e
46 22 0:52 / /mnt/ondemand rw,relatime - beegfs_ondemand beegfs_ondemand rw
961 22 0:16625 / /weka rw,relatime - wekafs csivol-pvc rw,writecache,readahead_kb=32768
47 22 0:42 / /mnt/pve/cephfs rw,relatime shared:10 - ceph 10.0.0.1,10.0.0.2:/ rw,name=admin
48 22 0:43 / /win rw,relatime shared:7 master:3 - cifs //srv/s rw
49 22 0:50 / /home/ben/my\040nas rw,nosuid,nodev shared:30 - fuse.sshfs ben@nas:/srv rw,user_id=1000
50 22 0:53 / /gluster rw,relatime - fuse.glusterfs gluster:media rw
51 22 0:54 / /host rw - 9p host:/home rw
52 22 0:29 / /pool rw shared:9 - zfs rpool/data/subvol-101-disk-0 rw,xattr,posixacl
53 22 0:38 /root /vol rw,relatime shared:1 - btrfs /dev/mapper/root rw,seclabel
54 22 8:33 / /media/backup rw shared:301 - fuseblk /dev/sdc1 rw
55 22 0:60 / /new rw - nextfs servers:/a rw
56 22 8:40 / /odd rw - apfs /dev/sdd1 rw
57 22 252:0 / /swapdisk rw - ext4 /dev/zram0 rw
58 22 7:3 / /per-node rw - xfs /dev/loop3 rw
59 22 7:4 / /image rw - xfs /dev/loop4 rw
60 22 8:1 / /frozen ro,relatime - xfs /dev/mapper/vg-root rw
61 22 0:65 / /d/merged rw - overlay overlay rw,lowerdir=/x,upperdir=/local/y,workdir=/local/z
62 22 0:66 / /e/merged rw - overlay overlay rw,lowerdir=/x,upperdir=/exafs/y,workdir=/exafs/z
63 22 8:33 / relative rw - ext4
broken line without separator
"""
MOUNTS = filesystems.parse(TABLE)
BACKING = {"/dev/loop3": "/exafs/shifter/node.xfs", "/dev/loop4": "/local/images/a"}


def at(path: str) -> Mount:
    mount = filesystems.holder(path, MOUNTS)
    assert mount is not None
    return mount


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp", Kind.DISK),
        ("/local/4711", Kind.DISK),
        ("/localx", Kind.DISK),
        ("/dev/shm/x", Kind.MEMORY),
        ("/run/user/1000/gvfs", Kind.NETWORK),
        ("/jet/home/me", Kind.NETWORK),
        ("/data", Kind.NETWORK),
        ("/ictstr01/me", Kind.NETWORK),
        ("/exafs", Kind.NETWORK),
        ("/gpfs/scratch/a", Kind.NETWORK),
        ("/mnt/tmp beegfs/a", Kind.NETWORK),
        ("/mnt/ondemand", Kind.NETWORK),
        ("/weka", Kind.NETWORK),
        ("/mnt/pve/cephfs", Kind.NETWORK),
        ("/win", Kind.NETWORK),
        ("/home/ben/my nas", Kind.NETWORK),
        ("/gluster", Kind.NETWORK),
        ("/host", Kind.NETWORK),
        ("/pool", Kind.DISK),
        ("/vol", Kind.DISK),
        ("/media/backup", Kind.DISK),
        ("/new", Kind.UNKNOWN),
        ("/swapdisk", Kind.MEMORY),
        ("/per-node", Kind.NETWORK),
        ("/image", Kind.DISK),
    ],
)
def test_the_kind_of_a_file_system_is_that_of_its_type(path: str, kind: Kind) -> None:
    """Disks of the node, its memory, and networks; a loop device is what its file is on."""
    assert filesystems.classify(at(path), mounts=MOUNTS, backing=BACKING).kind is kind


def test_an_unknown_type_is_a_disk_only_with_a_block_device_behind_it() -> None:
    """A new parallel file system must not be flooded because the list is older than it."""
    assert filesystems.classify(at("/odd"), block=True).kind is Kind.DISK
    assert filesystems.classify(at("/odd")).kind is Kind.UNKNOWN
    assert filesystems.classify(at("/new"), 0x65735546, block=True).kind is Kind.NETWORK


def test_an_overlay_is_what_its_upper_layer_is_on() -> None:
    """As far as that can be seen: in a container the table's paths mean nothing."""
    disk, network = at("/d/merged"), at("/e/merged")
    assert filesystems.upper_layer(disk) == "/local/y"
    assert filesystems.classify(disk, mounts=MOUNTS, upper_seen=True).kind is Kind.DISK
    assert filesystems.classify(network, mounts=MOUNTS, upper_seen=True).kind is Kind.NETWORK
    assert filesystems.classify(disk, mounts=MOUNTS).kind is Kind.UNKNOWN
    assert filesystems.classify(network, mounts=MOUNTS, same=at("/local")).kind is Kind.DISK


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (0xEF53, Kind.DISK),
        (0x01021994, Kind.MEMORY),
        (0x0BD00BD0, Kind.NETWORK),
        (0x6969, Kind.NETWORK),
        (0x65735546, Kind.NETWORK),
        (0x12345, Kind.UNKNOWN),
        (0, Kind.UNKNOWN),
    ],
)
def test_without_a_mount_table_statfs_tells(number: int, kind: Kind) -> None:
    """Some containers hide the table."""
    assert filesystems.classify(None, number).kind is kind


def test_the_mount_table_is_read_with_its_escapes_and_options() -> None:
    """Blanks are octal; what is no line of it is passed over."""
    beegfs = at("/mnt/tmp beegfs")
    assert (beegfs.number, beegfs.point, beegfs.source) == (45, "/mnt/tmp beegfs", "beegfs_nodev")
    assert at("/frozen").read_only
    assert not at("/local").read_only
    assert not [mount for mount in MOUNTS if mount.number == 63]


def test_of_two_mounts_on_one_place_the_later_one_counts() -> None:
    """And of nested ones the inner one, whatever their order."""
    table = filesystems.parse(
        "1 0 8:1 / /a rw - ext4 /dev/sda1 rw\n2 1 0:5 / /a/b rw - nfs4 h:/ rw\n"
        "3 0 0:6 / /a rw - tmpfs tmpfs rw\n"
    )
    assert [
        getattr(filesystems.holder(p, table), "number", None) for p in ("/a/b/c", "/a/c", "/")
    ] == [
        2,
        3,
        None,
    ]


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    """The kernel's words are read as they come."""
    for mount in filesystems.parse(text):
        assert filesystems.classify(mount, mounts=[mount]).kind in Kind
