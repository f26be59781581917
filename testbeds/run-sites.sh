#!/bin/bash
# run-sites.sh [--only SYSTEM,...] [--long] [--keep] [--] [PYTEST ARGUMENTS]   (root, Debian 12)
#
# Runs tests/site against real batch systems on this machine, one after the other: slurm, sge, oar,
# condor; and MPI alone: mpi.  For each: starts its bed, runs pytest twice, and stops it (--keep: the
# last one stays up):
#   as alice, on the host "login":   -m "not root"   what a user does
#   as root, on the machine itself:  -m "root"       a second user, killed nodes, a server that is away
# Without --long, tests marked "long" are left out: they take a minute or more and their point is made
# elsewhere too, mostly on another batch system.
# Returns 0 only if all pass.  A batch system that does not start fails.  Up to three tests of a round that
# fail are tried once more, by themselves, since real batch systems have weather: what then passes is listed
# at the end, and is to be looked into all the same.
#
# env: SITES_TIMEOUT=1800   seconds for each of the two
#      TESTBED_DIR=/var/tmp/testbeds
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "$0")" && pwd)
CHECKOUT=$(dirname "$HERE")
export TESTBED_DIR=${TESTBED_DIR:-/var/tmp/testbeds}
COPY=$TESTBED_DIR/checkout
LIMIT=${SITES_TIMEOUT:-1800}
systems=(slurm sge oar condor mpi)
keep='' long=''
while [ $# -gt 0 ]; do
    case $1 in
    --only) IFS=, read -r -a systems <<<"$2"; shift 2 ;;
    --keep) keep=1; shift ;;
    --long) long=1; shift ;;
    --) shift; break ;;
    *) break ;;
    esac
done
[ "$(id -u)" = 0 ] || {
    echo "run-sites.sh: the real batch systems need root (on Debian 12); 'make test' runs everything else" >&2
    exit 1
}
mkdir -p "$TESTBED_DIR"
exec 9>"$TESTBED_DIR/run-sites.lock"
flock -n 9 || { echo "run-sites.sh: another run holds $TESTBED_DIR; waiting for it"; flock 9; }

say() { printf '\n== %s\n' "$*"; }

# what the doctor's tests plant faults with: a clock that is wrong, a firewall; how a person gets to JupyterLab
# shellcheck source=testbeds/packages.sh
(TB=$TESTBED_DIR && . "$HERE/packages.sh" && have_packages faketime nftables openssh-server openssh-client chromium) 9>&-

say "environment of the users"
VENV=$("$HERE/venv.sh" playwright 9>&-) # the services must not inherit the lock
rm -rf "$COPY"
mkdir -p "$COPY"
(cd "$CHECKOUT" && tar --exclude=__pycache__ -cf - pyproject.toml tests testbeds examples benchmarks) | tar -C "$COPY" --no-same-owner -xf -
chmod -R a+rX "$COPY"
cd "$COPY"

# A fresh login's environment: nothing of root's own settings may reach the tests.
clean=(env -i LANG=C.UTF-8 TERM=dumb CI="${CI:-}" TESTBED_DIR="$TESTBED_DIR")
failed=()
second=() # rounds in which a test passed at its second attempt only

tests() { # SYSTEM WHO MARKERS COMMAND-PREFIX... -- PYTEST ARGUMENTS: 5, "no test ran", is an error without a choice of tests
    local system=$1 who=$2 markers=$3 status=0 prefix=()
    shift 3
    while [ "$1" != -- ]; do prefix+=("$1"); shift; done
    shift
    local batch=$system
    [ "$system" != condor ] || batch=htcondor
    [ "$system" = slurm ] || markers="not slurm and $markers"
    [ -n "$long" ] || markers="not long and $markers"
    local path=tests/site
    [ "$system" != mpi ] || path=tests/site/test_mpi.py
    say "$system: $who"
    local cache log
    cache=$(mktemp -d) log=$(mktemp)
    chmod 777 "$cache" # alice's tests or root's
    attempt() {
        status=0
        "${clean[@]}" SITE_BATCH="$batch" "${prefix[@]}" timeout --kill-after=30 "$LIMIT" \
            "$VENV/bin/python" -m pytest -o cache_dir="$cache" -rpfEs --durations=30 --durations-min=8 -m "$markers" "$path" "$@" </dev/null 9>&- |
            tee "$log" || status=$?
    }
    attempt "$@"
    if [ "$status" = 1 ] && tail -1 "$log" | grep -qE '[^0-9][1-3] (failed|error)'; then
        local names
        names=$(sed -nE 's/^(FAILED|ERROR) (.*)/\2/p' "$log")
        say "$system: $who: a second attempt at what failed"
        attempt "$@" --last-failed
        [ "$status" != 0 ] || second+=("$system $who: $names")
    fi
    rm -rf "$cache" "$log"
    if [ "$status" = 5 ] && [ $# -gt 0 ]; then status=0; fi
    [ "$status" = 0 ] || failed+=("$system $who ($status)")
}

for system in "${systems[@]}"; do
    say "$system: four hosts"
    started=$SECONDS
    if { [ "$system" = slurm ] && ! "$HERE/mpi-up.sh" 9>&-; } || # for srun
        { [ "$system" = mpi ] && ! "$HERE/nodes-up.sh" 9>&-; } || ! "$HERE/$system-up.sh" 9>&-; then
        failed+=("$system: its bed did not start")
        continue
    fi
    tests "$system" "as alice on the login host" "not root" \
        HOST_PATH="$VENV/bin:/usr/local/bin:/usr/bin:/bin" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        "$TESTBED_DIR/on-host" -u alice login -- "$@"
    if [ "$system" = mpi ]; then # needs no daemon, and nobody but alice
        say "$system: $((SECONDS - started)) s"
        continue
    fi
    tests "$system" "as root beside the hosts" "root" \
        HOME=/root USER=root LOGNAME=root \
        PATH="$VENV/bin:$TESTBED_DIR:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" -- "$@"
    if [ -z "$keep" ] || [ "$system" != "${systems[-1]}" ]; then "$HERE/$system-down.sh" 9>&-; fi
    say "$system: $((SECONDS - started)) s"
done
[ -n "$keep" ] || "$HERE/nodes-down.sh" 9>&-

if [ ${#failed[@]} -gt 0 ]; then
    say "failed:"
    printf '%s\n' "${failed[@]}"
    exit 1
fi
if [ ${#second[@]} -gt 0 ]; then
    say "passed at a second attempt only:"
    printf '%s\n' "${second[@]}"
fi
say "all passed: ${systems[*]}"
