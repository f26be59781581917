"""Which GPUs each worker sees."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.node.gpus import (
    NONE,
    Devices,
    Present,
    Vendor,
    deal,
    look,
    of_job,
)
from dask_hpc.node.options import parse_gpus

UUIDS = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,MIG-c7c9d5a5-5b1c-5a5a-8f5d-0f9c6f1f0a11"


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, {"CUDA_VISIBLE_DEVICES": ("2", "3")}),
        ({"CUDA_VISIBLE_DEVICES": UUIDS}, {"CUDA_VISIBLE_DEVICES": tuple(UUIDS.split(","))}),
        ({"ROCR_VISIBLE_DEVICES": "0,1"}, {"ROCR_VISIBLE_DEVICES": ("0", "1")}),
        ({"ZE_AFFINITY_MASK": "0.0,0.1"}, {"ZE_AFFINITY_MASK": ("0.0", "0.1")}),
        ({"SLURM_JOB_GPUS": "4,5"}, {"CUDA_VISIBLE_DEVICES": ("4", "5")}),
        ({"SLURM_JOB_GPUS": "4,5", "SLURM_STEP_GPUS": "5,6"}, {"CUDA_VISIBLE_DEVICES": ("5", "6")}),
        ({"SLURM_JOB_GPUS": "4,5", "CUDA_VISIBLE_DEVICES": "0,1"},
         {"CUDA_VISIBLE_DEVICES": ("0", "1")}),
        ({"_CONDOR_AssignedGPUs": "CUDA1, CUDA3"}, {"CUDA_VISIBLE_DEVICES": ("1", "3")}),
        ({"SGE_HGR_gpu": "0 2"}, {"CUDA_VISIBLE_DEVICES": ("0", "2")}),
        ({"SGE_HGR_gpu": "cuda0 cuda2"}, {"CUDA_VISIBLE_DEVICES": ("0", "2")}),
        ({"CUDA_VISIBLE_DEVICES": "1,2,3"}, {"CUDA_VISIBLE_DEVICES": ("1", "2")}),
    ],
)  # fmt: skip
def test_a_jobs_gpus_are_those_its_environment_lists(
    environ: dict[str, str], names: dict[str, tuple[str, ...]]
) -> None:
    """Numbers, UUIDs and MIG instances stay as they are; what programs obey goes first."""
    assert of_job(environ, 2) == Devices(names, 2)


@pytest.mark.parametrize("text", ["0", "", "NoDevFiles", "-1"])
def test_fewer_gpus_than_wanted_are_an_error_that_shows_the_list(text: str) -> None:
    """An empty list, and the words for it, are no GPU."""
    with pytest.raises(NodeError, match=f"2 GPUs are wanted .*CUDA_VISIBLE_DEVICES={text}"):
        of_job({"CUDA_VISIBLE_DEVICES": text, "SLURM_JOB_GPUS": "1,2"}, 2)


def test_auto_takes_what_is_listed_or_else_what_is_there() -> None:
    """And says when nobody tells whose the GPUs are."""
    assert of_job({"CUDA_VISIBLE_DEVICES": "0,1,2"}, "auto").count == 3
    found = of_job({}, "auto", Present(Vendor.AMD, 4))
    assert found.names == {"ROCR_VISIBLE_DEVICES": ("0", "1", "2", "3")}
    assert "nothing tells which GPUs are this job's" in found.notes[0]
    assert of_job({"SGE_HGR_gpu": "left right"}, 2).notes, "names of a site's own"
    assert of_job({}, 2).names == {"CUDA_VISIBLE_DEVICES": ("0", "1")}
    with pytest.raises(NodeError, match="no GPU is found"):
        of_job({}, "auto", NONE)


def test_each_worker_sees_its_own_gpu_alone() -> None:
    """As many workers as GPUs; fewer have several, more share them."""
    devices = Devices({"CUDA_VISIBLE_DEVICES": ("4", "5", "6", "7")}, 4)
    variable = "CUDA_VISIBLE_DEVICES"
    assert deal(devices, 4) == [({variable: text}, 1) for text in "4567"]
    assert deal(devices, 2) == [({variable: "4,5"}, 2), ({variable: "6,7"}, 2)]
    assert [own[variable] for own, _ in deal(devices, 8)] == list("44556677")


@given(st.integers(1, 16), st.integers(1, 64))
def test_every_gpu_is_dealt_and_none_twice_unless_workers_outnumber_them(
    count: int, workers: int
) -> None:
    """Every worker has at least one, whatever the numbers."""
    names = tuple(map(str, range(count)))
    dealt = [own["X"].split(",") for own, _ in deal(Devices({"X": names}, count), workers)]
    assert len(dealt) == workers
    assert {name for own in dealt for name in own} == set(names)
    if workers <= count:
        assert sum(map(len, dealt)) == count


def test_on_amd_the_second_variable_counts_among_what_the_first_left() -> None:
    """Else worker 1 of two would see the second device of one: none."""
    environ = {"ROCR_VISIBLE_DEVICES": "0,1", "GPU_DEVICE_ORDINAL": "0,1"}
    devices = of_job(environ, 2, Present(Vendor.AMD, 8))
    assert deal(devices, 2)[1][0] == {"ROCR_VISIBLE_DEVICES": "1", "GPU_DEVICE_ORDINAL": "0"}
    other = of_job({**environ, "CUDA_VISIBLE_DEVICES": "0,1"}, 2, Present(Vendor.NVIDIA, 8))
    assert deal(other, 2)[1][0]["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["nvidia0", "nvidia1", "nvidiactl", "dri/renderD128"], Present(Vendor.NVIDIA, 2)),
        (["kfd", "dri/renderD128", "dri/renderD129"], Present(Vendor.AMD, 2)),
        (["dri/card0", "dri/renderD128"], NONE),
        (["null"], NONE),
    ],
)
def test_the_machines_gpus_are_seen_without_a_driver(
    files: list[str], expected: Present, tmp_path: Path
) -> None:
    """A desktop's graphics is no GPU to compute on."""
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert look(str(tmp_path), str(tmp_path / "drm")) == expected
    vendor = tmp_path / "drm/renderD128/device/vendor"
    vendor.parent.mkdir(parents=True)
    vendor.write_text("0x8086\n")
    intel = expected if expected != NONE or files == ["null"] else Present(Vendor.INTEL, 1)
    assert look(str(tmp_path), str(tmp_path / "drm")) == intel


def test_the_number_of_gpus_is_read() -> None:
    """A number, or auto."""
    assert (parse_gpus("2"), parse_gpus("auto")) == (2, "auto")
    with pytest.raises(ConfigurationError, match="--gpus 'two'"):
        parse_gpus("two")
