#!/bin/bash
# sge-up.sh -- Son of Grid Engine 8.1.9 (Debian 12) with simulated execution hosts on this machine
# (root).  Idempotent: a second call resets what a test changed in queues and hosts.  After it, on the
# machine itself or on any simulated host, any user can qsub, qstat, qdel, qacct, or use DRMAA:
#   . /var/lib/gridengine/default/common/settings.sh
#
# env: NODES=4 SLOTS=16 MEM=16   hosts, slots of each, GB of each (virtual_free; declared, not real)
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}
RUN=$TB/run
G=$RUN/sge
N=${NODES:-4} SLOTS=${SLOTS:-16} MEM=${MEM:-16}
say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
[ "$(id -u)" = 0 ] || { echo "sge-up.sh: must be root" >&2; exit 1; }
mkdir -p "$TB"
# Debian's own cell, because /usr/bin/qsub and its like look there when a user's environment says nothing
export SGE_ROOT=/var/lib/gridengine SGE_CELL=default
COMMON=$SGE_ROOT/$SGE_CELL/common
SPOOL=/var/spool/gridengine

# ---- packages ------------------------------------------------------------------------------------
# shellcheck source=testbeds/packages.sh
. "$HERE/packages.sh"
dpkg-query -W gridengine-common >/dev/null 2>&1 || debconf-set-selections <<'EOC'
gridengine-common shared/gridengineconfig boolean true
gridengine-common shared/gridenginecell string default
gridengine-common shared/gridenginemaster string head
EOC
# netbase: /etc/services names the ports
have_packages gridengine-master gridengine-exec gridengine-client gridengine-drmaa1.0 netbase procps
say "packages there"

NODES=$N "$HERE/nodes-up.sh"
hosts=()
for i in $(seq 1 "$N"); do hosts+=("$(printf 'node%02d' "$i")"); done
mkdir -p "$G"/{log,tmp}
for h in "${hosts[@]}"; do
    install -d -m 1777 "$G/tmp/$h"
done

# ---- cell: who is the master, and this machine's other names -------------------------------------
install -d -o sgeadmin -g sgeadmin "$SGE_ROOT/$SGE_CELL" "$COMMON" "$SPOOL" \
    "$SPOOL"/{qmaster,qmaster/job_scripts,spooldb,execd} /run/gridengine
[ -e "$COMMON/bootstrap" ] || cp /usr/share/gridengine/default-bootstrap "$COMMON/bootstrap"
if [ ! -e "$SPOOL/spooldb/sge" ]; then
    chown -R sgeadmin:sgeadmin "$COMMON"
    setpriv --reuid=sgeadmin --regid=sgeadmin --init-groups /usr/share/gridengine/scripts/init_cluster \
        "$SGE_ROOT" "$SGE_CELL" "$SPOOL/spooldb" sgeadmin >"$G/log/init" 2>&1 || { cat "$G/log/init" >&2; exit 1; }
fi
echo head >"$COMMON/act_qmaster"
ME=$(hostname -s)
echo "head $ME $ME.localdomain localhost" >"$COMMON/host_aliases"
cat >"$COMMON/settings.sh" <<EOC
export SGE_ROOT=$SGE_ROOT SGE_CELL=$SGE_CELL
export DRMAA_LIBRARY_PATH=/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0
# the library wants more static thread storage than a running Python has left for it
export GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096
EOC
chmod 644 "$COMMON"/*
chown -R sgeadmin:sgeadmin "$COMMON"

# ---- qmaster -------------------------------------------------------------------------------------
up() { # NAME PIDFILE: does the process that the file names still run?
    local p
    p=$(cat "$2" 2>/dev/null) && grep -q "$1" "/proc/$p/cmdline" 2>/dev/null
}
change() { qconf "$@" >"$G/log/qconf" 2>&1 || { cat "$G/log/qconf" >&2; return 1; }; } # success speaks on stderr too
fresh=
if ! up sge_qmaster "$SPOOL/qmaster/qmaster.pid"; then
    fresh=1
    rm -f "$SPOOL/qmaster/qmaster.pid"
    /usr/sbin/sge_qmaster </dev/null >"$G/log/qmaster.out" 2>&1 ||
        { cat "$G/log/qmaster.out"; tail -n 5 "$SPOOL/qmaster/messages"; exit 1; } >&2
fi
for _ in $(seq 100); do qconf -sh >/dev/null 2>&1 && break; sleep 0.1; done
say "qmaster up${fresh:+, started}"

# ---- hosts, complexes, parallel environments, queues ---------------------------------------------
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
all=$(IFS=,; echo "${hosts[*]}")
qconf -ah "$all" >/dev/null 2>&1 || true # fails where they are known already
qconf -as "head,login,$all" >/dev/null 2>&1 || true
qconf -am root >/dev/null 2>&1 || true
qconf -au bob bobs >/dev/null 2>&1 || true

# gpu and virtual_free (memory) are consumables.  h_vmem stays a mere limit: as a consumable with default
# 0 it would make execd kill every job that does not ask for it ("qmaster enforced h_vmem", failed 37).
{
    qconf -sc | grep -vE '^(#|(gpu|virtual_free) )'
    echo 'gpu           gpu  INT     <=  YES  YES  0  0'
    echo 'virtual_free  vf   MEMORY  <=  YES  YES  0  0'
} >"$T/complexes"
change -Mc "$T/complexes"

for h in "${hosts[@]}"; do
    cat >"$T/host" <<EOC
hostname        $h
load_scaling    NONE
complex_values  slots=$SLOTS,gpu=2,virtual_free=${MEM}G
user_lists      NONE
xuser_lists     NONE
projects        NONE
xprojects       NONE
usage_scaling   NONE
report_variables NONE
EOC
    if qconf -se "$h" >/dev/null 2>&1; then change -Me "$T/host"; else change -Ae "$T/host"; fi
done
printf 'group_name @allhosts\nhostlist %s\n' "${hosts[*]}" >"$T/group"
if qconf -shgrp @allhosts >/dev/null 2>&1; then change -Mhgrp "$T/group"; else change -Ahgrp "$T/group"; fi

pe() { # NAME ALLOCATION_RULE
    cat >"$T/pe" <<EOC
pe_name            $1
slots              9999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    $2
control_slaves     TRUE
job_is_first_task  FALSE
urgency_slots      min
accounting_summary TRUE
qsort_args         NONE
EOC
    if qconf -sp "$1" >/dev/null 2>&1; then change -Mp "$T/pe"; else change -Ap "$T/pe"; fi
}
# shellcheck disable=SC2016 # Grid Engine's names, not ours
{ pe smp '$pe_slots'; pe mpi '$fill_up'; pe mpi_rr '$round_robin'; }
pe mpi4 4

# the hosts share /tmp, and a job's tasks on several hosts would share one directory in it
tmpdirs=$G/tmp
for h in "${hosts[@]}"; do tmpdirs+=",[$h=$G/tmp/$h]"; done
queue() { # NAME ['ATTRIBUTE VALUE'...]: the values differ from the ones below
    local name=$1 setting
    shift
    cat >"$T/queue" <<EOC
qname                 $name
hostlist              @allhosts
seq_no                0
load_thresholds       NONE
suspend_thresholds    NONE
nsuspend              1
suspend_interval      00:05:00
priority              0
min_cpu_interval      00:05:00
processors            UNDEFINED
qtype                 BATCH INTERACTIVE
ckpt_list             NONE
pe_list               smp mpi mpi_rr mpi4
rerun                 FALSE
slots                 $SLOTS
tmpdir                $tmpdirs
shell                 /bin/bash
prolog                NONE
epilog                NONE
shell_start_mode      unix_behavior
starter_method        NONE
suspend_method        NONE
resume_method         NONE
terminate_method      NONE
notify                00:00:05
owner_list            NONE
user_lists            NONE
xuser_lists           NONE
subordinate_list      NONE
complex_values        NONE
projects              NONE
xprojects             NONE
calendar              NONE
initial_state         default
EOC
    for limit in rt cpu fsize data stack core rss vmem; do
        printf 's_%s INFINITY\nh_%s INFINITY\n' "$limit" "$limit"
    done >>"$T/queue"
    for setting in "$@"; do sed -i "s|^${setting%% *} .*|$setting|" "$T/queue"; done
    if qconf -sq "$name" >/dev/null 2>&1; then change -Mq "$T/queue"; else change -Aq "$T/queue"; fi
}
queue all.q
queue short.q 's_rt 0:0:50' 'h_rt 0:1:0' 'seq_no 10'
queue rerun.q 'rerun TRUE' 'seq_no 20'
queue bob.q 'user_lists bobs' 'hostlist node01' "slots 2" 'seq_no 30'
queue closed.q 'hostlist node01' 'seq_no 40'
{ qmod -cq '*'; qmod -e '*'; qmod -d closed.q; } >/dev/null 2>&1 || true # exit 1 means "done" here

# ---- quick: schedule every second and at once after each submission or end -----------------------
qconf -ssconf | sed -E '
    s/^(schedule_interval +).*/\10:0:1/
    s/^(flush_submit_sec +).*/\11/
    s/^(flush_finish_sec +).*/\11/
    s/^(job_load_adjustments +).*/\1NONE/
    s/^(queue_sort_method +).*/\1seqno/
    s/^(weight_priority +).*/\11.0/' >"$T/scheduler"
change -Msconf "$T/scheduler"
mkdir -p "$T/conf"
qconf -sconf global | sed -E '
    /^#/d
    s/^(load_report_time +).*/\100:00:05/
    s/^(max_unheard +).*/\100:00:20/
    s/^(mailer +).*/\1\/bin\/true/
    s/^(administrator_mail +).*/\1none/
    s/^(gid_range +).*/\150000-50999/
    s/^(reporting_params +).*/\1accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00/
    /^ +flush_time=/d
    s/^(finished_jobs +).*/\11000/
    s/^(loglevel +).*/\1log_info/' >"$T/conf/global"
change -Mconf "$T/conf/global"

# ---- execution daemons ---------------------------------------------------------------------------
for h in "${hosts[@]}"; do
    pidfile=$SPOOL/execd/$h/execd.pid # a process id on that host
    "$TB/on-host" "$h" bash -c '[ -e "$1" ] && grep -q sge_execd "/proc/$(cat "$1")/cmdline" 2>/dev/null' bash "$pidfile" && continue
    rm -f "$pidfile"
    # jobs inherit execd's environment: nothing of ours may be in it
    "$TB/on-host" "$h" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin SGE_ROOT=$SGE_ROOT SGE_CELL=$SGE_CELL \
        setsid -f /usr/sbin/sge_execd </dev/null >"$G/log/execd-$h.out" 2>&1
done
ready() { qstat -f -q all.q 2>/dev/null | awk '/^all.q@/ && NF == 5' | wc -l; } # a sixth column is a bad state
ok=
for _ in $(seq 300); do
    [ "$(ready)" = "$N" ] && { ok=1; break; }
    sleep 0.1
done
if [ -z "$ok" ]; then
    echo "hosts are not up:" >&2
    qstat -f -q all.q >&2
    tail -n 3 "$G"/log/execd-*.out "$SPOOL"/qmaster/messages "$SPOOL"/execd/*/messages /tmp/execd_messages.* >&2 2>/dev/null
    exit 1
fi
say "grid engine up: $N hosts of $SLOTS slots"
