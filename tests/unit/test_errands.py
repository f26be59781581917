"""Commands that another machine runs for a head: claimed by one, and never run twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dask_hpc.batch import errands as module
from dask_hpc.batch.client import BatchClient
from dask_hpc.batch.errands import Errands, command_of
from dask_hpc.drivers.base import Command
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import BatchSystemMissing, BatchSystemUnavailable, to_json

COMMAND = Command(("squeue", "--me"), unset=("SQUEUE_*",), variables=(("LANG", "C"),))
SAID = {"returncode": 3, "stdout": "out", "stderr": "err"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE", "FIRST_PATIENCE", "TIMEOUT", "_WAY"):
        monkeypatch.setattr(module, name, 0.05)


async def test_who_looks_sees_a_command_claims_it_and_brings_its_output() -> None:
    """As it was asked for, in its environment; of two that look one runs it."""
    errands = Errands()
    looks = [asyncio.create_task(errands.look(5)) for _ in range(2)]
    await asyncio.sleep(0)
    asked = asyncio.create_task(errands(COMMAND))
    found: list[Any] = await asyncio.gather(*looks)
    ((number, words),) = found[0].items()
    assert found[1] == found[0]
    assert command_of(words) == COMMAND
    assert [errands.claim(int(number)) for _ in range(2)] == [True, False]
    assert await errands.look(0) == {}
    errands.bring(int(number), SAID)
    output = await asked
    assert (output.command, output.returncode, output.text) == (COMMAND, 3, "err\nout")
    errands.bring(int(number), SAID)  # told twice: nobody minds


async def test_what_nobody_claims_was_not_run() -> None:
    """A submission is then not in doubt; and nobody runs it later."""
    errands = Errands()
    with pytest.raises(BatchSystemMissing, match=r"nobody is there to run squeue"):
        await errands(COMMAND)
    assert await errands.look(0) == {}
    assert not errands.claim(0)


async def test_of_what_was_claimed_and_not_told_nothing_is_known() -> None:
    """Whoever ran it has died, or the network is away."""
    errands = Errands()
    asked = asyncio.create_task(errands(COMMAND))
    await asyncio.sleep(0)
    assert errands.claim(0)
    with pytest.raises(BatchSystemUnavailable, match="did not come back"):
        await asked


async def test_the_first_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started the head has to see its scheduler file; then who is there looks at once."""
    monkeypatch.setattr(module, "FIRST_PATIENCE", 60.0)
    errands = Errands()
    asked = asyncio.create_task(errands(COMMAND))
    done, _ = await asyncio.wait([asked], timeout=0.2)
    assert not done
    asked.cancel()
    await asyncio.wait([asked])
    assert await errands.look(0) == {}
    with pytest.raises(BatchSystemMissing):
        await errands(COMMAND)


async def test_errors_there_are_errors_here() -> None:
    """Through the client of a batch system: a query without an answer is none."""
    errands = Errands()
    asked = asyncio.create_task(BatchClient(Slurm(), errands).query({"mine": None}))
    found = await errands.look(5)
    assert found is not None
    assert found["0"]["argv"][0] == "squeue"
    assert errands.claim(0)
    errands.bring(0, to_json(BatchSystemUnavailable("too slow")))
    with pytest.raises(BatchSystemUnavailable, match="too slow"):
        await asked


async def test_who_looks_is_let_go_at_the_end() -> None:
    """At once, and those who come later too."""
    errands = Errands()
    look = asyncio.create_task(errands.look(5))
    await asyncio.sleep(0)
    errands.close()
    assert await look is None
    assert await errands.look(5) is None
