#!/bin/bash
# run-sites.sh [--down] [--] [PYTEST ARGUMENTS]   (root, Debian 12)
#
# Runs tests/site against real batch systems on this machine.  Starts what is not up, installs this
# checkout where the beds' users can read it, and runs pytest twice:
#   as alice, on the host "login":   -m "slurm and not root"   what a user does
#   as root, on the machine itself:  -m "slurm and root"       a second user, killed nodes, ...
# Returns 0 only if both pass.  The bed stays up; --down ends it afterwards.
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
down=
while [ $# -gt 0 ]; do
    case $1 in
    --down) down=1; shift ;;
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

say "Slurm of four hosts"
"$HERE/slurm-up.sh" 9>&- # the services must not inherit the lock
say "environment of the users"
VENV=$("$HERE/venv.sh" 9>&-)
rm -rf "$COPY"
mkdir -p "$COPY"
(cd "$CHECKOUT" && tar --exclude=__pycache__ -cf - pyproject.toml tests examples benchmarks) | tar -C "$COPY" --no-same-owner -xf -
chmod -R a+rX "$COPY"

# A fresh login's environment: nothing of root's own settings may reach the tests.
clean=(env -i LANG=C.UTF-8 TERM=dumb CI="${CI:-}" TESTBED_DIR="$TESTBED_DIR")
pytest=(timeout --kill-after=30 "$LIMIT" "$VENV/bin/python" -m pytest -p no:cacheprovider tests/site)
cd "$COPY"

say "as alice on the login host"
alice=0
"${clean[@]}" HOST_PATH="$VENV/bin:/usr/local/bin:/usr/bin:/bin" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    "$TESTBED_DIR/on-host" -u alice login "${pytest[@]}" -m "slurm and not root" "$@" </dev/null || alice=$?

say "as root, beside the hosts"
root=0
"${clean[@]}" HOME=/root USER=root LOGNAME=root PATH="$VENV/bin:$TESTBED_DIR:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    "${pytest[@]}" -m "slurm and root" "$@" </dev/null || root=$?

left=$(squeue -h -o '%i %u %j %T' 2>/dev/null || true)
[ -z "$left" ] || { say "jobs left in the queue"; echo "$left"; }
if [ -n "$down" ]; then "$HERE/slurm-down.sh" --hosts; fi

# pytest's 5 is "no test ran": an error, except where a choice of tests was given
if [ "$root" = 5 ] && [ $# -gt 0 ]; then root=0; fi
if [ "$alice" = 5 ] && [ $# -gt 0 ]; then alice=0; fi
say "status: $alice as alice, $root as root"
[ "$alice" = 0 ] && [ "$root" = 0 ]
