"""A wrong pair of launcher and library is known and named; roles need ranks."""

from __future__ import annotations

import pytest

from dask_hpc.errors import ConfigurationError
from dask_hpc.launch.pair import Library, TooFewRanks, WrongPair, check_world, known_to_fail
from dask_hpc.launch.rank import Rank
from dask_hpc.launch.roles import Roles, assign, leaders

MPICH = Library("MPICH Version:      5.0.2\nMPICH ABI: 17", "/v/lib/libmpi.so.12")
MPICH_PMIX = Library("MPICH Version: 5.0.2\nMPICH configure: --with-pmix=/opt/pmix")
OPENMPI = Library("Open MPI v5.0.11, package: Open MPI user@localhost", "/v/lib/libmpi.so.40")
INTEL = Library("Intel(R) MPI Library 2021.13 for Linux* OS")
CRAY = Library("MPI VERSION    : CRAY MPICH version 8.1.28 (ANL base 3.4a2)")
MVAPICH = Library("MVAPICH2 Version      :\t2.3.7")


def rank(launcher: str, size: int = 4) -> Rank:
    return Rank(launcher, 0, size, 0, size, "", "R")


@pytest.mark.parametrize(
    ("library", "family"),
    [
        *((each, "MPICH") for each in (MPICH, INTEL, CRAY, MVAPICH)),
        (OPENMPI, "Open MPI"),
        (Library("HPE MPT 2.28"), "HPE"),
        (Library(""), "unknown"),
    ],
)
def test_libraries_belong_to_families(library: Library, family: str) -> None:
    """By what MPI_Get_library_version says."""
    assert library.family == family


@pytest.mark.parametrize(
    ("launcher", "library", "pmi", "pmix", "fails"),
    [
        ("MPICH's mpirun", MPICH, True, False, False),
        ("MPICH's mpirun", INTEL, True, False, False),
        ("MPICH's mpirun", OPENMPI, True, False, True),
        ("Open MPI's mpirun", OPENMPI, False, True, False),
        ("Open MPI's mpirun", MPICH, False, True, True),
        ("Open MPI's mpirun", MPICH_PMIX, False, True, False),
        ("srun", MPICH, False, False, True),
        ("srun", OPENMPI, False, False, True),
        ("srun", MPICH, True, False, False),
        ("srun", OPENMPI, True, False, True),
        ("srun", OPENMPI, False, True, False),
        ("PALS mpiexec", CRAY, True, False, False),
        ("a PMI launcher", OPENMPI, True, False, False),
    ],
)
def test_pairs_that_only_abort_are_known_before(
    launcher: str, library: Library, pmi: bool, pmix: bool, fails: bool
) -> None:
    """And no other is refused: what is not known may work."""
    assert known_to_fail(rank(launcher), library, pmi=pmi, pmix=pmix) is fails


def test_a_world_that_is_too_small_names_all_there_is() -> None:
    """Which mpirun, which library, what to change."""
    with pytest.raises(WrongPair) as caught:
        check_world(rank("MPICH's mpirun"), OPENMPI, 1, "/usr/bin/hydra_pmi_proxy")
    text = str(caught.value)
    for words in (
        "MPICH's mpirun (/usr/bin/hydra_pmi_proxy) started 4 ranks",
        "Open MPI v5.0.11",
        "/v/lib/libmpi.so.40",
        "worlds of 1",
        "the mpirun of Open MPI",
        "pip install mpich",
    ):
        assert words in text
    assert "\n\n" not in text


def test_srun_is_told_its_option() -> None:
    """It offers no MPI unless asked."""
    for library, option in ((MPICH, "--mpi=pmi2"), (OPENMPI, "--mpi=pmix")):
        with pytest.raises(WrongPair, match=option):
            check_world(rank("srun"), library, 1, "")


def test_worlds_that_agree_pass() -> None:
    """And launchers that tell no size, and none at all."""
    check_world(rank("MPICH's mpirun"), MPICH, 4, "")
    check_world(rank("aprun", 0), CRAY, 1, "")
    check_world(None, MPICH, 1, "")


@pytest.mark.parametrize(
    ("size", "asked", "roles"),
    [
        (3, {"scheduler": 0}, Roles(0, None, frozenset({1, 2}))),
        (3, {"scheduler": 2}, Roles(2, None, frozenset({0, 1}))),
        (2, {"scheduler": 0, "exclusive": False}, Roles(0, None, frozenset({0, 1}))),
        (1, {"scheduler": 0, "exclusive": False}, Roles(0, None, frozenset({0}))),
        (2, {"scheduler": None}, Roles(None, None, frozenset({0, 1}))),
        (4, {"scheduler": 0, "client": 1}, Roles(0, 1, frozenset({2, 3}))),
        (2, {"scheduler": 0, "client": 0}, Roles(0, 0, frozenset({1}))),
        (2, {"scheduler": 0, "client": 1, "exclusive": False}, Roles(0, 1, frozenset({0, 1}))),
    ],
)
def test_ranks_get_their_roles(size: int, asked: dict[str, int], roles: Roles) -> None:
    """As dask-mpi gives them; client and scheduler may share one."""
    assert assign(size, **asked) == roles  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "asked", "needed"),
    [
        (1, {"scheduler": 0}, 2),
        (2, {"scheduler": 2}, 3),
        (2, {"scheduler": 0, "client": 1}, 3),
        (1, {"scheduler": 0, "client": 0}, 2),
        (1, {"scheduler": 1, "exclusive": False}, 2),
    ],
)
def test_too_few_ranks_are_an_error_with_the_number(
    size: int, asked: dict[str, int], needed: int
) -> None:
    """It is a RuntimeError as dask-mpi's, and a ConfigurationError as all of ours."""
    with pytest.raises(TooFewRanks, match=f"it needs {needed}") as caught:
        assign(size, **asked)  # type: ignore[arg-type]
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, ConfigurationError)


def test_the_lowest_rank_of_a_host_leads_it() -> None:
    """But not one that runs the user's program alone."""
    assert leaders(["a", "a", "b", "b"]) == {"a": 0, "b": 2}
    assert leaders(["a", "b", "b", "c"], client_alone=1) == {"a": 0, "b": 2, "c": 3}
    assert leaders(["a", "b"], client_alone=1) == {"a": 0}
