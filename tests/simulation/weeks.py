"""Live through many seeded weeks, and make a week that fails as small as it goes.

python -m tests.simulation.weeks [--seeds 5000] [--first 0]
python -m tests.simulation.weeks --seed 16 [--without slow,late] [--trace 60]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from tests.simulation.machine import Site
from tests.simulation.week import Outcome, Plan, draw, play

#: Weeks that one process lives through at a time.
CHUNK = 25


def smaller(plan: Plan) -> Iterator[Plan]:
    """Weeks with one thing less."""
    for trouble in sorted(plan.troubles):
        yield replace(plan, troubles=plan.troubles - {trouble})
    if plan.text:
        yield replace(plan, text=False)
    for i in range(1, len(plan.words)):
        yield replace(plan, words=plan.words[:i] + plan.words[i + 1 :])
    if plan.length > 600.0 and plan.closes is None:
        yield replace(plan, length=plan.length - 600.0)


def shrink(plan: Plan, outcome: Outcome) -> tuple[Plan, Outcome]:
    """The smallest week in which the same rule is broken, as far as one step at a time leads."""
    for tried in smaller(plan):
        result = play(tried)
        if broken(result) == broken(outcome):
            return shrink(tried, result)
    return plan, outcome


def broken(outcome: Outcome) -> str:
    """Name of the rule that was broken; empty where all held."""
    return "" if outcome.violation is None else outcome.violation.rule


def report(plan: Plan, outcome: Outcome, lines: int = 40) -> str:
    """What to read of a week that failed."""
    return "\n".join(
        [
            f"week {plan.seed}: {outcome.violation}",
            f"  {plan}",
            *(f"  {line}" for line in outcome.trace[-lines:]),
            f"  again: python -m tests.simulation.weeks --seed {plan.seed}",
        ]
    )


def full(days: float) -> Plan:
    """Days that are not in miniature: sixty jobs of an hour each, ten thousand a week."""
    words, site = ((0.0, 60),), Site(nodes=16)
    return Plan(1, words=words, length=days * 86400.0, site=site, walltime=3600)


def _lived(seeds: range) -> list[tuple[int, str]]:
    return [(seed, rule) for seed in seeds if (rule := broken(play(draw(seed))))]


def many(first: int, count: int, processes: int) -> list[tuple[int, str]]:
    """Seeds and rules of the weeks that fail."""
    chunks = [range(s, min(s + CHUNK, first + count)) for s in range(first, first + count, CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        return [failed for chunk in pool.map(_lived, chunks) for failed in chunk]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many weeks")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--seed", type=int, help="one week, told in full")
    parser.add_argument("--without", default="", help="troubles to leave out of it")
    parser.add_argument("--trace", type=int, default=60, help="lines of its trace")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--full", action="store_true", help="seven days that are not in miniature")
    args = parser.parse_args()
    if args.full:
        began = time.process_time()
        outcome = play(full(days=7))
        spent = time.process_time() - began
        print(f"{outcome.submitted} jobs, {outcome.rounds} rounds, {spent:.1f} CPU-s", end="; ")
        print(outcome.violation or "no rule was broken")
        return outcome.violation is not None
    if args.seed is not None:
        plan = draw(args.seed)
        plan = replace(plan, troubles=plan.troubles - set(args.without.split(",")))
        outcome = play(plan)
        if outcome.violation is not None:
            plan, outcome = shrink(plan, outcome)
        print(report(plan, outcome, args.trace))
        return outcome.violation is not None
    began = time.perf_counter()
    failed = many(args.first, args.seeds, args.processes)
    for seed, rule in failed:
        print(f"week {seed}: {rule}")
    spent = time.perf_counter() - began
    print(f"{args.seeds} weeks, {len(failed)} failed, {spent:.0f} s")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
