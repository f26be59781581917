"""Two thousand workers join one head on this machine; see `joins` for what a stub is."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_hpc.cluster.security import ensure_identity
from dask_hpc.model.joining import FILES_BESIDE, FILES_PER_WORKER, JOIN_SECONDS
from tests.simulation.joins import measure

WORKERS = 2000


@pytest.mark.timeout(240)
async def test_two_thousand_workers_join_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is lost, none waits long once it is its turn, and the head answers others meanwhile."""
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path))
    load = await measure(WORKERS, ensure_identity(), tmp_path)
    print(f"\n{WORKERS} workers, 8 on a node: {load}")
    assert load.lost == []
    assert load.joined == WORKERS
    assert load.files <= WORKERS * FILES_PER_WORKER + FILES_BESIDE
    # Wide bounds, for slow and busy machines; but without turns the last registration takes nearly
    # as long as all of them do (docs/many-workers.md).
    assert load.registration < 0.75 * load.seconds
    assert load.seconds < 10 * WORKERS * JOIN_SECONDS
    assert load.deaf < 15
    assert load.idle < 0.5
