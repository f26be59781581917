"""Why jobs wait, on a batch system that tells it only when asked about one array."""

from __future__ import annotations

from dask_hpc.batch.client import BatchClient
from dask_hpc.control.ledger import Ledger


async def ask_why(client: BatchClient, ledger: Ledger, now: float) -> bool:
    """Ask why jobs wait, one array at a time, if the query does not tell.

    Parameters
    ----------
    client, ledger
        Who is asked, and who is told.
    now
        Seconds of the ledger's clock.

    Returns
    -------
    bool
        Whether the answer is news.
    """
    if not client.tells_why or (name := ledger.unexplained(now)) is None:
        return False
    why = await client.why(str(ledger.arrays[name].array))
    return ledger.explain(name, why, now)
