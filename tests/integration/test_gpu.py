"""On a machine with NVIDIA GPUs: what the driver shows a worker is its own GPU, and no other."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import uuid

import pytest

from tests.integration.account import Account

pytestmark = pytest.mark.skipif(
    shutil.which("nvidia-smi") is None, reason="this machine has no GPU"
)


def installed() -> list[str]:
    """UUIDs of this machine's GPUs, in the order of their numbers."""
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    return re.findall(r"UUID: GPU-([0-9a-f-]+)\)", listing.stdout)


def visible() -> list[str]:
    """UUIDs of the GPUs that CUDA's driver shows this process."""
    cuda = ctypes.CDLL("libcuda.so.1")
    _check(cuda.cuInit(0))
    count, found = ctypes.c_int(), []
    _check(cuda.cuDeviceGetCount(ctypes.byref(count)))
    for number in range(count.value):
        device, name = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        _check(cuda.cuDeviceGet(ctypes.byref(device), number))
        _check(cuda.cuDeviceGetUuid(ctypes.byref(name), device))
        found.append(str(uuid.UUID(bytes=bytes(name))))
    return found


def write_and_read(size: int) -> bool:
    """Allocate on the GPU, copy there and back."""
    cuda = ctypes.CDLL("libcuda.so.1")
    _check(cuda.cuInit(0))
    context, place = ctypes.c_void_p(), ctypes.c_uint64()
    _check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
    _check(cuda.cuCtxSetCurrent(context))
    data, back = os.urandom(size), ctypes.create_string_buffer(size)
    _check(cuda.cuMemAlloc_v2(ctypes.byref(place), ctypes.c_size_t(size)))
    _check(cuda.cuMemcpyHtoD_v2(place, data, ctypes.c_size_t(size)))
    _check(cuda.cuMemcpyDtoH_v2(back, place, ctypes.c_size_t(size)))
    _check(cuda.cuMemFree_v2(place))
    return back.raw == data


def _check(code: int) -> None:
    assert code == 0, f"CUDA's driver answers {code}"


@pytest.mark.parametrize("by", ["number", "uuid", "nothing"])
def test_a_worker_sees_exactly_its_gpu(
    by: str, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed by number or by UUID, or not listed at all: one worker for each, and it computes."""
    there = installed()
    if by == "nothing":
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        names = map(str, range(len(there))) if by == "number" else (f"GPU-{u}" for u in there)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(names))
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    count = len(there)
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", str(count))
    with account.cluster(cores=count, gpus=count, memory=f"{count} GiB") as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(count, timeout=60)
        with cluster.get_client() as client:
            seen = list(client.run(visible).values())
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            assert [worker["resources"] for worker in workers] == [{"GPU": 1}] * count
            assert client.submit(write_and_read, 1 << 24, resources={"GPU": 1}).result(timeout=60)
    assert sorted(seen) == sorted([name] for name in there)
