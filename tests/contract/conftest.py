"""The fixture of the contract: a machine with each batch system in turn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.contract.site import SYSTEMS, Site


@pytest.fixture(params=SYSTEMS)
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """One batch system's programs, alone on the PATH with the machine's own."""
    made = Site(request.param, tmp_path)
    monkeypatch.setenv("PATH", f"{made.installed.bin}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr("dask_hpc.batch.client.FIRST_WAIT", 0.0)
    return made
