"""A bad day on the Slurm test bed, as long as wanted: faults drawn from a seed, and the account.

    sudo testbeds/slurm-up.sh
    sudo -E $(testbeds/venv.sh)/bin/python benchmarks/chaos.py [--seed 1] [--minutes 10]

A computation whose result is known (tests/site/programs/churn.py, which alice must be able to read)
by alice, on 4 jobs of 2 workers with a walltime of 1 minute in a partition whose jobs may be
preempted, while root kills workers, supervisors and hosts, cancels, suspends and requeues jobs,
takes nodes away, stops slurmctld and fills the file system of the run directory: one fault every 12
seconds or so.  Ends with 1 if anything was lost that no fault accounts for, or left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tests.site.chaos import verdict  # noqa: E402
from tests.site.chaos.plan import draw  # noqa: E402
from tests.site.chaos.trial import as_json, run_trial  # noqa: E402

#: Faults, each as often as its share.
KINDS = (
    *("worker", "worker", "supervisor", "cancel", "cancel", "requeue", "preempt", "preempt"),
    *("node", "host", "server", "full", "suspend"),
)
EVERY = 12.0
JOBS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--queue", default="spot")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root")
    seconds = given.minutes * 60
    drawn = random.Random(given.seed)
    kinds = [drawn.choice(KINDS) for _ in range(int((seconds - 20) / EVERY))]
    outcome = run_trial(
        "chaos",
        "slurm",
        draw(given.seed, kinds, 5, seconds - 15),
        jobs=JOBS,
        seconds=seconds,
        cluster={
            "queue": given.queue,
            "job_cpu": 6,  # two to a node: there is room to renew all at once
            "worker_extra_args": ["--grace", "5"],  # the bed's KillWait
        },
    )
    if given.json:
        given.json.write_text(as_json(outcome), encoding="utf-8")
    raise SystemExit(report(outcome))


def report(outcome) -> int:
    """Print what happened; 1 if something did that must not."""
    told, blows, seen = outcome.told, outcome.blows, outcome.seen
    losses = [*verdict.rerun(told, blows), *verdict.results(told, blows)]
    share = verdict.capacity(told, JOBS * 2)
    by_kind = {kind: sum(blow.kind == kind for blow in blows) for kind in sorted(set(KINDS))}
    print(f"\nfaults        {by_kind}")
    for word in outcome.missed:
        print(f"  missed      {word}")
    print(
        f"generations   {verdict.generations(told['names'], JOBS):.1f} in {told['seconds']:.0f} s"
    )
    print(f"tasks         {told['tasks']}, executions {told['executions']}")
    print(f"lost, by fault {verdict.by_cause(losses)}")
    print(f"wrong         {verdict.wrong(told) or 'nothing'}")
    print(f"capacity      least {share['least']:.0%}, mean {share['mean']:.1%}")
    many = verdict.too_many(seen.young, blows, JOBS)
    doubled = verdict.doubled(seen.doubled, blows)
    print(f"live jobs     at most {seen.most}; too many that had only begun: {many or 'never'}")
    print(f"doubled       {doubled or 'none'}")
    print(f"left          {list(outcome.left) or 'nothing'}")
    print(f"report        {told['report']}")
    wrong = {kind: count for kind, count in verdict.wrong(told).items() if kind != "scattered"}
    unexplained = [loss for loss in losses if loss.cause is None]
    for loss in unexplained[:20]:
        print(f"  no fault for {loss}")
    return int(bool(wrong or unexplained or outcome.left or doubled or many))


if __name__ == "__main__":
    main()
