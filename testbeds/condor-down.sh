#!/bin/bash
# condor-down.sh [--server] [--wipe] [--hosts]   (root)
#   stops HTCondor on every host; jobs that ran wait in the queue and start again after condor-up.sh
#   --server stops only collector, negotiator and schedd: jobs go on, and are found again if
#            condor-up.sh follows within their lease (LEASE there)
#   --wipe   also deletes queue, history and logs (job ids start at 1 again), the commands in
#            /usr/local/bin and the configuration; the unpacked package stays
#   --hosts  also takes the simulated hosts down
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}
TREE=$TB/condor
C=$TB/run/condor
[ "$(id -u)" = 0 ] || { echo "condor-down.sh: must be root" >&2; exit 1; }
server='' wipe='' hosts=''
for a in "$@"; do
    case $a in
    --server) server=1 ;;
    --wipe) wipe=1 ;;
    --hosts) hosts=1 ;;
    *) echo "condor-down.sh: unknown option $a" >&2; exit 2 ;;
    esac
done
if [ -n "$server" ] && [ -n "$wipe$hosts" ]; then
    echo "condor-down.sh: --server goes alone" >&2
    exit 2
fi

stop() { # HOST
    grep -q host-init "/proc/$(cat "$TB/run/hosts/$1.pid" 2>/dev/null)/cmdline" 2>/dev/null || return 0
    "$TB/on-host" "$1" "$C/control" stop "$1" "$C" "$TREE"
}
if [ -x "$C/control" ]; then
    if [ -z "$server" ]; then
        for d in "$C"/node*/; do stop "$(basename "$d")" & done
        wait # the schedd sees how its jobs end
    fi
    stop login
fi
if [ -n "$hosts" ]; then "$HERE/nodes-down.sh"; fi
if [ -n "$wipe" ]; then
    for link in /usr/local/bin/condor_*; do
        case $(readlink "$link") in "$TREE"/*) rm -f "$link" ;; esac
    done
    case $(readlink /etc/condor/condor_config) in "$C"/*) rm -f /etc/condor/condor_config ;; esac
    rmdir /etc/condor 2>/dev/null
    rm -rf "$C"
fi
echo "condor${server:+ server} down"
