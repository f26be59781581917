#!/bin/bash
# venv.sh [PACKAGE...] -- the environment of the test beds' users (root, Debian 12).  Idempotent.
#
# Makes TESTBED_DIR/venv with Debian's own Python, readable by everyone, and installs this checkout in
# it as the wheel that users would get, with what the tests need and the packages named (a benchmark's
# peers).  Prints the environment's path.  Only what changed since the last call is installed.
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "$0")" && pwd)
CHECKOUT=$(dirname "$HERE")
TB=${TESTBED_DIR:-/var/tmp/testbeds}
VENV=$TB/venv
PYTHON=/usr/bin/python3 # not the first on PATH: root's own may lie where other users cannot look
[ "$(id -u)" = 0 ] || { echo "venv.sh: must be root" >&2; exit 1; }
mkdir -p "$TB"
exec 3>&1 1>&2 # only the path goes to standard output
exec 9>"$TB/venv.lock"
flock 9
# shellcheck source=testbeds/packages.sh
. "$HERE/packages.sh"
have_packages python3 python3-venv

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
checksum() { find "$@" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum; }
remembered() { [ "$(cat "$VENV/.$1" 2>/dev/null)" = "$2" ]; }

"$VENV/bin/python" -c '' 2>/dev/null || "$PYTHON" -m venv --clear "$VENV"

cd "$CHECKOUT"
needs=$(checksum pyproject.toml)
source=$(checksum pyproject.toml README.md LICENSE src)
if ! remembered needs "$needs" || ! remembered source "$source"; then
    echo "installing dask-hpc in $VENV"
    wheels=$(mktemp -d)
    pip wheel --no-deps --wheel-dir "$wheels" .
    wheel=$(echo "$wheels"/*.whl)
    remembered needs "$needs" || pip install "${wheel}[test]"
    pip install --no-deps --force-reinstall "$wheel"
    rm -rf "$wheels"
    echo "$needs" >"$VENV/.needs"
    echo "$source" >"$VENV/.source"
fi
for package in "$@"; do
    # a name with its exact version, or a bare name
    "$VENV/bin/python" -c '
import importlib.metadata as m, sys
name, _, version = sys.argv[1].partition("==")
sys.exit(version not in ("", m.version(name)))' "$package" 2>/dev/null || pip install "$package"
done
echo "$VENV" >&3
