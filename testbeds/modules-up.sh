#!/bin/bash
# modules-up.sh -- the two programs that read module files (root, Debian 12).  Idempotent.
#
# Unpacks Debian's Environment Modules and Lmod below TESTBED_DIR/modules and installs neither: each
# excludes the other, and changes every login shell.  tests/packaging/test_modulefiles.py finds them there.
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}/modules
[ "$(id -u)" = 0 ] || { echo "modules-up.sh: must be root" >&2; exit 1; }
# shellcheck source=testbeds/packages.sh
. "$HERE/packages.sh"
have_packages tcl8.6 lua5.3 lua-filesystem lua-json lua-posix lua-term
[ ! -e "$TB/ready" ] || exit 0
mkdir -p "$TB"
cd "$TB"
# root downloads by itself: apt's own user may not write here
fetch() { apt-get -q -o APT::Sandbox::User=root download environment-modules lmod >/dev/null; }
fetch || { apt-get -q -o DPkg::Lock::Timeout=600 update >/dev/null && fetch; } # lists that are old, or not there
for archive in *.deb; do
    dpkg -x "$archive" "${archive%%_*}"
done
rm -f ./*.deb
touch ready
