"""The widget of a real cluster: its buttons, and what it shows."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import psutil
import pytest

from dask_hpc import HPCCluster
from dask_hpc.cluster.known import find
from tests.helpers import wait_until
from tests.integration.account import Account

pytest.importorskip("ipywidgets")


def shown(cluster: HPCCluster) -> Any:
    """The parts of what a notebook shows."""
    assert cluster._widget() is not None
    return cluster._shown


def test_the_buttons_scale_a_real_cluster(account: Account) -> None:
    """Workers come and go, and the widget follows by itself; closing stops it."""
    with account.cluster() as cluster:
        widget = shown(cluster)
        widget.size.value = 2
        widget.scale.click()
        wait_until(lambda: "done" in widget.said.value)
        cluster.wait_for_workers(2, timeout=30)
        wait_until(lambda: "2 wanted: 2 running" in widget.status.value)
        assert ">running<" in widget.jobs.value
        widget.unit.value, widget.least.value, widget.most.value = "jobs", 1, 3
        widget.adapt.click()
        wait_until(lambda: cluster.head.adapting().keys() == {"default"})
        wait_until(lambda: "1 to 3 jobs" in widget.status.value)
        assert "1 to 3 jobs" in cluster._repr_html_()
        assert cluster._widget() is cluster._widget()
    account.wait_until_nothing_is_left()


def test_a_refusal_is_told_by_the_widget(account: Account) -> None:
    """In the batch system's words, and repr says the same."""
    with account.cluster(job_extra_directives=["--nosuch"]) as cluster:
        widget = shown(cluster)
        widget.size.value = 1
        widget.scale.click()
        wait_until(lambda: "--nosuch" in widget.said.value)
        wait_until(lambda: "--nosuch" in widget.status.value)
        assert "failure: " in repr(cluster)
    account.wait_until_nothing_is_left()


async def test_in_the_event_loop_of_a_notebook_it_works_too(account: Account) -> None:
    """A cluster with asynchronous=True shares the notebook's loop, which nothing may block."""
    async with HPCCluster(
        batch="local",
        name="loop",
        cores=1,
        memory="500 MiB",
        dashboard_port=0,
        asynchronous=True,
    ) as cluster:
        widget = shown(cluster)
        widget.size.value = 1
        widget.scale.click()
        await cluster.wait_for_workers(1, timeout=30)
        async with asyncio.timeout(10):
            while "1 wanted: 1 running" not in widget.status.value:
                await asyncio.sleep(0.05)
    await asyncio.to_thread(account.wait_until_nothing_is_left)


@pytest.mark.timeout(90)
def test_the_widget_of_a_cluster_elsewhere_is_the_same(account: Account) -> None:
    """Its buttons scale it, and what others do is seen; a head that is gone is told, not raised."""
    with (
        account.cluster("out", head="detached") as cluster,
        HPCCluster.attach("out") as attached,
    ):
        widget = shown(attached)
        widget.size.value = 1
        widget.scale.click()
        cluster.wait_for_workers(1, timeout=30)
        wait_until(lambda: "1 wanted: 1 running" in widget.status.value)
        cluster.scale(0)  # somebody else
        wait_until(lambda: "0 wanted" in widget.status.value)
        assert "head: process" in repr(attached)
        widget.dashboard.click()
        wait_until(lambda: "token=" in widget.link.value)
        head = psutil.Process(find("out").pid)
        cluster.shutdown()
        head.wait(20)
        assert "failure: " in repr(attached)
        assert "Failure" in attached._repr_html_()
    assert widget.scale.disabled
    account.wait_until_nothing_is_left()


def test_a_notebook_without_ipywidgets_shows_html(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same facts."""
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with account.cluster() as cluster:
        assert cluster._widget() is None
        assert "0 wanted: none" in cluster._repr_html_()
    account.wait_until_nothing_is_left()
