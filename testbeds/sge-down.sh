#!/bin/bash
# sge-down.sh [--server] | [--wipe] [--hosts]   (root)
#   deletes all jobs, stops execd (every host) and the qmaster that sge-up.sh started
#   --server  stops the qmaster alone: execd and the jobs run on.  sge-up.sh starts it again
#   --wipe    also deletes queues, logs and accounting (job ids start at 1 again)
#   --hosts   also takes the simulated hosts down
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}
G=$TB/run/sge
SPOOL=/var/spool/gridengine
server='' wipe='' hosts=''
for a in "$@"; do
    case $a in
    --server) server=1 ;;
    --wipe) wipe=1 ;;
    --hosts) hosts=1 ;;
    *) echo "sge-down.sh: unknown option $a" >&2; exit 2 ;;
    esac
done
[ "$(id -u)" = 0 ] || { echo "sge-down.sh: must be root" >&2; exit 1; }

stop() { # PIDFILE PATTERN: end the process that the file names, if its command line still matches
    local p
    p=$(cat "$1" 2>/dev/null) || return 0
    if grep -q "$2" "/proc/$p/cmdline" 2>/dev/null; then
        kill -TERM "$p"
        for _ in $(seq 150); do [ -d "/proc/$p" ] || break; sleep 0.1; done
        [ -d "/proc/$p" ] && kill -KILL "$p"
    fi
    rm -f "$1"
}

if [ -n "$server" ]; then
    stop "$SPOOL/qmaster/qmaster.pid" sge_qmaster
    echo "qmaster down"
    exit 0
fi

# by force, as a lost host never confirms; qdel itself would wait long for a qmaster that is not there
if grep -q sge_qmaster "/proc/$(cat "$SPOOL/qmaster/qmaster.pid" 2>/dev/null)/cmdline" 2>/dev/null; then
    timeout 20 qdel -f -u '*' >/dev/null 2>&1
fi
for f in "$TB"/run/hosts/node*.pid; do
    [ -e "$f" ] || continue
    h=$(basename "$f" .pid)
    # execd, its shepherds (they survive it), then whatever carries a job's group (gid_range of
    # sge-up.sh), as that is how Grid Engine itself tells a job's processes; all inside the host
    "$TB/on-host" "$h" bash -c '
        p=$(cat "$1" 2>/dev/null); [ -n "$p" ] && grep -q sge_execd "/proc/$p/cmdline" 2>/dev/null && kill "$p"
        for d in /proc/[0-9]*; do
            if grep -qa "^sge_shepherd" "$d/cmdline" 2>/dev/null ||
                grep -qsE "^Groups:.*\<50[0-9]{3}\>" "$d/status"; then
                kill -KILL "${d#/proc/}" 2>/dev/null
            fi
        done
        for _ in $(seq 50); do [ -n "$p" ] && [ -d "/proc/$p" ] || break; sleep 0.1; done
        rm -f "$1"' bash "$SPOOL/execd/$h/execd.pid"
done
stop "$SPOOL/qmaster/qmaster.pid" sge_qmaster
if [ -n "$hosts" ]; then "$HERE/nodes-down.sh"; fi
if [ -n "$wipe" ]; then rm -rf "$SPOOL"/{spooldb,qmaster,execd} /var/lib/gridengine/default/common/accounting "$G"; fi
echo "grid engine down"
