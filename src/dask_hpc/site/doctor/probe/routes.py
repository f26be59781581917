"""Measure the routes from here to other machines: each interface's address, one after the other.

What a party is, and where the parties' addresses are written, is its caller's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from .wire import Caller


class Target(NamedTuple):
    """One address of another machine: its name, its interface, where it listens."""

    name: str
    interface: str
    address: str
    port: int


def targets(parties: Iterable[Mapping[str, Any]], here: str) -> list[Target]:
    """Addresses of all machines but this one; bridges lead to containers of that machine only."""
    return [
        Target(party["name"], name, address, party["port"])
        for party in parties
        if party["name"] != here
        for name, interface in party["interfaces"].items()
        if interface["up"] and not interface["inner"]
        for address in interface["addresses"][:1]
    ]


def measure(files: tuple[str, str, str], here: str, wanted: list[Target]) -> list[dict[str, Any]]:
    """Measure each route: who can be reached at all, all at once; how fast, one by one.

    Parameters
    ----------
    files
        Authority, certificate, key.
    here
        Our own name.
    wanted
        What to connect to.

    Returns
    -------
    list of dict
        ``source``, ``target``, ``interface``, ``address`` and either ``error``, or
        ``round_trip`` (seconds), ``bandwidth`` (bytes per second) and ``ahead``: seconds that
        the other clock is ahead.
    """
    if not wanted:
        return []
    with ThreadPoolExecutor(max_workers=min(8, len(wanted))) as pool:
        callers = list(pool.map(lambda target: _call(files, target), wanted))
    found = []
    for target in wanted:
        caller = callers.pop(0)
        route: dict[str, Any] = {
            "source": here,
            "target": target.name,
            "interface": target.interface,
            "address": target.address,
        }
        if isinstance(caller, Caller):
            with contextlib.closing(caller):
                route |= _measure(caller)
        else:
            route["error"] = caller
        found.append(route)
    return found


def _call(files: tuple[str, str, str], target: Target) -> Caller | str:
    try:
        return Caller(files, target.address, target.port)
    except OSError as error:
        return str(error) or type(error).__name__


def _measure(caller: Caller) -> dict[str, Any]:
    try:
        round_trip, ahead = caller.round_trip()
        return {"round_trip": round_trip, "ahead": ahead, "bandwidth": caller.bandwidth()}
    except (OSError, ValueError) as error:
        return {"error": f"connected, then: {error}"}
