"""What dask-cuda adds to a worker that has a GPU of its own, where it is asked for and installed.

Its class ``CUDAWorker`` is no worker but a program that starts one per GPU, as our supervisor does.
So the name stands here for what those workers have beyond the engine's: a CUDA context from the
start, and data that moves from the GPU's memory to the host's when the first is full.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dask_hpc.errors import ConfigurationError

if TYPE_CHECKING:
    from dask_hpc.node.options import WorkerOptions

NAMES = ("dask_cuda.CUDAWorker", "dask_cuda.cuda_worker.CUDAWorker")
_CONTEXT = ("dask_cuda.initialize", ("--create-cuda-context",))


def understood(wanted: WorkerOptions) -> WorkerOptions:
    """Replace dask-cuda's class by what it stands for: the engine's, and GPUs if none were named.

    Raises
    ------
    ConfigurationError
        If dask-cuda cannot be imported.
    """
    if wanted.worker_class not in NAMES:
        return wanted
    try:
        importlib.import_module("dask_cuda")
    except ImportError as error:
        raise ConfigurationError(
            f"--worker-class {wanted.worker_class}: {error}",
            hint="install dask-cuda in the nodes' Python environment",
        ) from error
    return replace(wanted, worker_class=None, dask_cuda=True, gpus=wanted.gpus or "auto")


def preloads(wanted: WorkerOptions) -> tuple[list[str], list[Any]]:
    """Preload modules of the workers, and the arguments: of each its own, where one is ours."""
    modules, arguments = list(wanted.preload), list(wanted.preload_argv)
    if not wanted.dask_cuda:
        return modules, arguments
    module, own = _CONTEXT
    return [*modules, module], [*([arguments] * len(modules)), list(own)]


def spilling(environ: Mapping[str, str], memory: int) -> Mapping[str, Any]:
    """Keywords of the nanny of a worker with these GPUs and so many bytes on the host.

    Nothing where dask-cuda has no such function (an older one), or the GPU no memory of its own.
    """
    try:
        common = importlib.import_module("dask_cuda.worker_common")
        utils = importlib.import_module("dask_cuda.utils")
    except ImportError:
        return {}
    choose = common.worker_data_function(
        device_memory_limit="default", memory_limit=memory or None, enable_cudf_spill=False
    )
    data = choose(utils.nvml_device_index(0, environ.get("CUDA_VISIBLE_DEVICES", "0")))
    return {"data": data} if data else {}
