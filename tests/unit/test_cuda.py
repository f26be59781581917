"""What dask-cuda's class stands for; dask-cuda itself is played by two modules of its names."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from dask_hpc.errors import ConfigurationError
from dask_hpc.node import cuda
from dask_hpc.node.options import WorkerOptions


def options(**wanted: Any) -> WorkerOptions:
    return WorkerOptions(scheduler="tls://h:1", **wanted)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of dask-cuda 26.10 as is used."""
    package, utils = ModuleType("dask_cuda"), ModuleType("dask_cuda.utils")
    common: Any = ModuleType("dask_cuda.worker_common")
    utils.nvml_device_index = lambda i, names: int(names.split(",")[i])  # type: ignore[attr-defined]

    def data_function(**limits: Any) -> Any:
        return lambda device: ("DeviceHostFile", {"device": device, **limits})

    common.worker_data_function = data_function
    for module in (package, utils, common):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("installed")
def test_dask_cudas_class_is_a_worker_per_gpu_with_a_context_and_spilling() -> None:
    """Arguments of the user's preload modules stay theirs."""
    wanted = cuda.understood(
        options(worker_class="dask_cuda.CUDAWorker", preload=("mine",), preload_argv=("--x",))
    )
    assert (wanted.worker_class, wanted.gpus, wanted.dask_cuda) == (None, "auto", True)
    assert cuda.preloads(wanted) == (
        ["mine", "dask_cuda.initialize"],
        [["--x"], ["--create-cuda-context"]],
    )
    _, limits = cuda.spilling({"CUDA_VISIBLE_DEVICES": "3"}, 1000)["data"]
    assert (limits["device"], limits["memory_limit"]) == (3, 1000)
    assert cuda.understood(options(worker_class=cuda.NAMES[1], gpus=2)).gpus == 2


def test_without_dask_cuda_its_class_is_an_error_and_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who does not ask for it does not need it."""
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(ConfigurationError, match=r"CUDAWorker: .*dask_cuda"):
        cuda.understood(options(worker_class="dask_cuda.CUDAWorker"))
    plain = options(worker_class="mine.Worker", preload=("a",), preload_argv=("--x",))
    assert cuda.understood(plain) is plain
    assert cuda.preloads(plain) == (["a"], ["--x"])


def test_a_dask_cuda_without_that_function_spills_as_the_engine_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Older ones have it inside their class alone."""
    monkeypatch.setitem(sys.modules, "dask_cuda.worker_common", None)
    assert cuda.spilling({}, 1000) == {}
