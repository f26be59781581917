"""Judge what lies between machines: routes, TLS, clocks, the directory that they share.

Pure: measurements in, findings out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask_hpc.node import filesystems
from dask_hpc.node.filesystems import Kind
from dask_hpc.site.doctor.asked import Asked, used_interface
from dask_hpc.site.doctor.finding import Finding, ok, problem, warning

Report = Mapping[str, Any]
Route = Mapping[str, Any]

#: The login node's name among the parties.
LOGIN = "login"
#: Seconds; a round trip through TLS is 0.2 ms on one machine, a few on a slow network.
SLOW_ROUND_TRIP = 0.02
#: Seconds.  Certificates, accounting and file times go wrong by such amounts.
SOME_SKEW, MUCH_SKEW = 0.5, 5.0
#: Seconds until a new file is seen: NFS keeps directories for up to a minute (nfs(5), acdirmax).
SLOW_FILE = 5.0
_MIB = 1 << 20


def routes(measured: Sequence[Route], parties: Mapping[str, Report], asked: Asked) -> list[Finding]:
    """Judge every route that was measured.

    Parameters
    ----------
    measured
        See :func:`~dask_hpc.site.doctor.probe.routes.measure`.
    parties
        Report of each machine by its name; the login node's is `LOGIN`.
    asked
        Which interfaces are to be used.
    """
    good: dict[str, list[Route]] = {}
    failed: list[Route] = []
    for route in measured:
        if "error" in route:
            failed.append(route)
        else:
            good.setdefault(route["interface"], []).append(route)
    reached = {(route["source"], route["target"]) for each in good.values() for route in each}
    found = [_good(name, each, parties) for name, each in sorted(good.items())]
    for route in failed:
        otherwise = (route["source"], route["target"]) in reached
        judged = _failed(route, parties, asked, otherwise=otherwise)
        found += [judged] if judged else []
    return found


def _good(interface: str, measured: Sequence[Route], parties: Mapping[str, Report]) -> Finding:
    worst = max(route["round_trip"] for route in measured)
    lines = [
        f"{_host(route['source'], parties)} to {_host(route['target'], parties)}"
        f" {route['round_trip'] * 1000:.2f} ms, {route['bandwidth'] / _MIB:.0f} MiB/s"
        for route in measured
    ]
    seen = "; ".join(lines)
    if worst > SLOW_ROUND_TRIP:
        return warning(f"routes over {interface}", seen, "a slow route: name a faster interface=")
    return ok(f"routes over {interface}", seen)


def _failed(
    route: Route, parties: Mapping[str, Report], asked: Asked, *, otherwise: bool
) -> Finding | None:
    source, target, interface = route["source"], route["target"], route["interface"]
    wanted = asked.interface
    if target == LOGIN:
        wanted = asked.scheduler_interface or asked.interface
    used = used_interface(wanted, parties[target]) == interface
    if not used and otherwise and interface not in parties[source].get("interfaces", {}):
        return None  # the fast network of the nodes: nobody expects it to be reached from here
    name = f"route {_host(source, parties)} to {_host(target, parties)}"
    seen = f"over {interface} ({route['address']}): {route['error']}"
    if used or not otherwise:
        advice = "a firewall, or networks that do not meet"
        advice += ": name another interface=" if otherwise else ": ask the site which is open"
        return problem(name, seen, advice)
    return warning(name, seen, "not the interface that would be used")


def _host(name: str, parties: Mapping[str, Report]) -> str:
    return str(parties[name]["host"]) if name in parties else name


def tls(measured: Sequence[Route], parties: Mapping[str, Report]) -> Finding | None:
    """Judge whether machines could prove to each other that they are the same user's."""
    for report in parties.values():
        if report.get("tls"):
            return problem(
                "TLS",
                f"{report['host']} cannot use your identity: {report['tls']}",
                "it must be readable there: see DASK_HPC_HOME",
            )
    for route in measured:
        if "SSL" in (said := str(route.get("error", ""))) or "certificate" in said.lower():
            where = f"{_host(route['source'], parties)} to {_host(route['target'], parties)}"
            return problem("TLS", f"{where}: {said}", "compare the clocks of both machines")
    best = [route["round_trip"] for route in measured if "round_trip" in route]
    if not best:
        return None
    return ok("TLS", f"authenticated on both sides; a round trip takes {min(best) * 1000:.2f} ms")


def clock(ahead: Mapping[str, tuple[float, float]], parties: Mapping[str, Report]) -> list[Finding]:
    """Judge how far the clocks of nodes are from the login node's.

    Parameters
    ----------
    ahead
        For each node, between how many seconds and how many its clock is ahead.
    parties
        Their reports.
    """
    found = []
    for name, (least, most) in ahead.items():
        sure = 0.0 if least <= 0 <= most else min(abs(least), abs(most))
        way = "ahead of" if least > 0 else "behind"
        host = _host(name, parties)
        if sure < SOME_SKEW:
            found.append(ok("clock", f"{host}: within {max(abs(least), abs(most)):.3f} s of here"))
            continue
        seen = f"{host} is {sure:.1f} s {way} this machine"
        judge = problem if sure > MUCH_SKEW else warning
        advice = "ask the site to set the clock: certificates and deadlines are read from it"
        found.append(judge("clock", seen, advice))
    return found


def clock_bounds(report: Report, seen: tuple[float, float]) -> tuple[float, float]:
    """Between how many seconds a node's clock is ahead, by when its report was written and seen.

    Parameters
    ----------
    report
        With the time when it was written, by its own clock.
    seen
        When it was not there yet and when it was there, by ours.
    """
    written = float(report.get("written", report["time"]))
    return written - seen[1], written - seen[0]


def measured_clocks(measured: Sequence[Route]) -> dict[str, tuple[float, float]]:
    """The same by round trips with the login node, which are far more exact."""
    found: dict[str, tuple[float, float]] = {}
    for route in sorted((r for r in measured if "ahead" in r), key=lambda r: -r["round_trip"]):
        half = route["round_trip"] / 2
        if route["source"] == LOGIN:
            found[route["target"]] = (route["ahead"] - half, route["ahead"] + half)
        elif route["target"] == LOGIN:
            found[route["source"]] = (-route["ahead"] - half, -route["ahead"] + half)
    return found


def shared(
    delays: Mapping[str, tuple[float | None, float | None]],
    parties: Mapping[str, Report],
    directory: str,
) -> list[Finding]:
    """Judge how long a new file takes to be seen on the other side.

    Parameters
    ----------
    delays
        For each node: seconds until it saw ours, until we saw its; None where that took too long.
    parties
        Their reports.
    directory
        Where the files are.
    """
    found = []
    for name, (there, back) in delays.items():
        host = _host(name, parties)
        seen = (
            f"{directory}: a new file is seen by {host} {_after(there)}, and from it {_after(back)}"
        )
        slowest = max(SLOW_FILE + 1 if each is None else each for each in (there, back))
        if slowest > SLOW_FILE:
            advice = "attributes are cached for long there: give workers a longer death_timeout="
            found.append(warning("shared directory", seen, advice))
        else:
            found.append(ok("shared directory", seen))
    return found


def _after(seconds: float | None) -> str:
    return "not in time" if seconds is None else f"after {seconds:.2f} s"


def login_directory(found: Report, directory: str) -> Finding | None:
    """Judge, without a job, whether the shared directory can be one at all."""
    if filesystems.by_name(found.get("type", "")).kind is Kind.MEMORY:
        return problem(
            "shared directory",
            f"{directory} is on {found['type']}: the memory of this machine, seen by no other",
            "name a directory that all nodes see: export DASK_HPC_HOME=DIR",
        )
    return None
