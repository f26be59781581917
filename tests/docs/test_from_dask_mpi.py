"""The page for those who come from dask-mpi has each of its parameters and options, and ours."""

from __future__ import annotations

import inspect
import re

import pytest

from dask_hpc import mpi
from dask_hpc.cli.mpi import mpi as command
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "from-dask-mpi.md").read_text(encoding="utf-8")
VERDICTS = {"same", "differs", "no effect"}

#: Of dask-mpi 2026.3.0, in their order, with their defaults.
INITIALIZE = {
    "interface": None,
    "nthreads": 1,
    "local_directory": None,
    "memory_limit": "auto",
    "nanny": False,
    "dashboard": True,
    "dashboard_address": ":8787",
    "protocol": None,
    "worker_class": "distributed.Worker",
    "worker_options": None,
    "comm": None,
    "exit": True,
}
EXECUTE = {
    "client_function": None,
    "client_args": (),
    "client_kwargs": None,
    "client_rank": 1,
    "scheduler": True,
    "scheduler_rank": 0,
    "scheduler_address": None,
    "scheduler_port": None,
    "scheduler_file": None,
    "interface": None,
    "nthreads": 1,
    "local_directory": "",
    "memory_limit": "auto",
    "nanny": False,
    "dashboard": True,
    "dashboard_address": ":8787",
    "protocol": None,
    "exclusive_workers": True,
    "worker_class": "distributed.Worker",
    "worker_options": None,
    "worker_name": None,
    "comm": None,
}
_OPTIONS = """
    --scheduler-file --scheduler-port --scheduler-rank --interface --protocol --nthreads
    --memory-limit --local-directory --scheduler --no-scheduler --nanny --no-nanny
    --exclusive-workers --inclusive-workers --worker-class --worker-options --dashboard
    --no-dashboard --dashboard-address --name
"""
OPTIONS = _OPTIONS.split()
OURS = {option for parameter in command.params for option in parameter.opts} | {
    option for parameter in command.params for option in parameter.secondary_opts
}


def rows(text: str) -> dict[str, str]:
    """What a table says of each word."""
    found = re.findall(r"^\| `([\w-]+)` \| ([\w ]+) \|", text, re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(mpi.initialize, INITIALIZE), (mpi.execute, EXECUTE)], ids=lambda f: ""
)
def test_parameters_have_their_order_and_defaults(ours: object, theirs: dict[str, object]) -> None:
    """So that a call without keywords means the same."""
    assert callable(ours)
    parameters = list(inspect.signature(ours).parameters.values())
    positional = {each.name: each.default for each in parameters if each.kind != each.KEYWORD_ONLY}
    assert positional == theirs
    assert list(positional) == list(theirs)


def test_each_parameter_is_on_the_page() -> None:
    """With a verdict; and no other."""
    table = rows(PAGE.partition("## The command")[0])
    assert set(table) == {*INITIALIZE, *EXECUTE}
    assert set(table.values()) <= VERDICTS


def test_each_option_is_on_the_page_and_understood() -> None:
    """Those of dask-mpi in the table, the others below it."""
    text = PAGE.partition("## The command")[2].partition("## What else")[0]
    table = rows(text)
    assert set(table.values()) <= VERDICTS
    for option in OPTIONS:
        assert option in OURS
        assert f"`{option}`" in text
    for option in OURS - set(OPTIONS):
        positive = option if option.startswith("--") else option.upper()
        assert f"`{positive}`" in text or f"`{option.replace('--', '--no-', 1)}`" in text, option
