"""Which GPUs a job has on its node, and which of them each worker sees.

Pure over the environment and a look at /dev; no driver, and no library of a vendor's, is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dask_hpc.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Vendor(StrEnum):
    """Whose GPUs the machine has."""

    NVIDIA = "nvidia"
    AMD = "amd"
    INTEL = "intel"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Present:
    """GPUs of the machine, whoever may use them.

    Parameters
    ----------
    vendor
        Of the GPUs.
    count
        Of them, where their files tell.
    """

    vendor: Vendor
    count: int = 0


NONE = Present(Vendor.UNKNOWN)

#: Variables that a vendor's runtime obeys.  A batch system that does not know what its GPUs are
#: sets several of them (Slurm's gres.conf, Flags); AMD's runtime obeys ROCR_VISIBLE_DEVICES first,
#: and then one of the others, which count among what the first has left (ROCm, "GPU isolation").
CUDA, ROCR, LEVEL_ZERO = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"
_HIP = ("HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
_OBEYED = (CUDA, ROCR, *_HIP, LEVEL_ZERO)
_OF_VENDOR = {
    Vendor.NVIDIA: CUDA,
    Vendor.AMD: ROCR,
    Vendor.INTEL: LEVEL_ZERO,
    Vendor.UNKNOWN: CUDA,
}
#: Variables by which batch systems tell a job its GPUs, where nothing set those above:
#: sbatch(1) and srun(1); HTCondor's manual, "The Job's Environment"; SGE's resource maps.
_TOLD = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "_CONDOR_AssignedGPUs", "SGE_HGR_gpu")
#: What a runtime understands: numbers, and names such as GPU-8f3c... and MIG-...
_DEVICE = re.compile(r"[\d.]+|(GPU|MIG)-\S+")
_INTEL = "0x8086"  # PCI's number of the vendor
#: What stands for "no device": Slurm's word, and the ones that CUDA knows.
_NO_DEVICE = ("NoDevFiles", "-1", "none", "void")


@dataclass(frozen=True, slots=True)
class Devices:
    """The GPUs of a job on one node.

    Parameters
    ----------
    names
        Of the devices (numbers, UUIDs, names of MIG instances), by variable.
    count
        Devices.
    vendor
        Whose they are.
    notes
        Warnings.
    """

    names: Mapping[str, tuple[str, ...]]
    count: int
    vendor: Vendor = Vendor.UNKNOWN
    notes: tuple[str, ...] = ()


def of_job(
    environ: Mapping[str, str], wanted: int | Literal["auto"], present: Present = NONE
) -> Devices:
    """Find the GPUs of this job on this node.

    Parameters
    ----------
    environ
        The job's environment, which lists them; a list goes before what the machine has, since
        others' jobs may be there.
    wanted
        How many; ``"auto"`` takes all that are listed, or else present.
    present
        GPUs of the machine.

    Raises
    ------
    NodeError
        If the job has fewer than are wanted, or ``"auto"`` finds none.
    """
    names = _listed(environ, present.vendor)
    if not names:
        return _numbered(wanted, present)
    have, variable = min((len(each), name) for name, each in names.items())
    if wanted == "auto":
        wanted = have
    if not wanted or have < wanted:
        raise NodeError(
            f"{wanted or 'some'} GPUs are wanted on this node, and the job has {have}"
            f" ({variable}={environ[variable]})",
            hint="ask the batch system for as many: gpus=, or options of its own",
        )
    return Devices({name: each[:wanted] for name, each in names.items()}, wanted, present.vendor)


def _listed(environ: Mapping[str, str], vendor: Vendor) -> dict[str, tuple[str, ...]]:
    """Devices by variable: those that programs obey, else a batch system's own."""
    found = {name: _entries(environ[name]) for name in _OBEYED if name in environ}
    used = {name: each for name, each in found.items() if each}
    if used or found.get(_OF_VENDOR[vendor]) == ():  # an empty list says that there is none
        return used or found
    for name in _TOLD:
        entries = _entries(environ.get(name, ""))
        if entries and all(map(_DEVICE.fullmatch, entries)):  # a site may name its GPUs as it likes
            return {_OF_VENDOR[vendor]: entries}
    return {}


def _entries(text: str) -> tuple[str, ...]:
    words = [word.strip() for word in re.split(r"[,\s]+", text) if word.strip()]
    if not words or words[0] in _NO_DEVICE:
        return ()
    # HTCondor's CUDA0 and Grid Engine's cuda0 are device 0.
    return tuple(re.sub(r"^(?i:cuda)(?=\d+$)", "", word) for word in words)


def _numbered(wanted: int | Literal["auto"], present: Present) -> Devices:
    """The first devices of the machine: nothing says which are the job's."""
    count = present.count if wanted == "auto" else wanted
    if not count:
        raise NodeError(
            f"no GPU is found: {', '.join(_OBEYED)} are not set, nor is one in /dev",
            hint="ask the batch system for GPUs, or leave --gpus out",
        )
    numbers = tuple(str(number) for number in range(count))
    note = f"nothing tells which GPUs are this job's: its workers take {', '.join(numbers)}"
    return Devices({_OF_VENDOR[present.vendor]: numbers}, count, present.vendor, (note,))


def deal(devices: Devices, workers: int) -> list[tuple[dict[str, str], int]]:
    """Give each worker its GPUs.

    Parameters
    ----------
    devices
        Of the job on this node.
    workers
        On this node; more than there are devices share them.

    Returns
    -------
    list of (variables, number of GPUs)
        For each worker, at least one GPU.
    """
    return [_part(devices, *_range(devices.count, workers, k)) for k in range(workers)]


def _range(count: int, workers: int, k: int) -> tuple[int, int]:
    first = k * count // workers
    return first, max(first + 1, (k + 1) * count // workers)


def _part(devices: Devices, first: int, last: int) -> tuple[dict[str, str], int]:
    own = {name: each[first:last] for name, each in devices.names.items()}
    if devices.vendor is Vendor.AMD and ROCR in own:  # the others count among what this one leaves
        relative = tuple(str(number) for number in range(last - first))
        own |= {name: relative for name in (*_HIP, CUDA) if name in own}
    return {name: ",".join(each) for name, each in own.items()}, last - first


def look(root: str = "/dev", drm: str = "/sys/class/drm") -> Present:
    """See whose GPUs are here, and how many."""
    there = Path(root)
    if count := len(list(there.glob("nvidia[0-9]*"))):
        return Present(Vendor.NVIDIA, count)
    nodes = [node.name for node in there.glob("dri/renderD*")]
    if (there / "kfd").exists():  # AMD's driver for computing
        return Present(Vendor.AMD, len(nodes))
    intel = [name for name in nodes if _is_intels(name, drm)]
    return Present(Vendor.INTEL, len(intel)) if intel else NONE


def _is_intels(node: str, drm: str) -> bool:
    try:
        return Path(drm, node, "device/vendor").read_text(encoding="ascii").strip() == _INTEL
    except OSError:
        return False
