#!/bin/bash
# slurm-up.sh -- Slurm 22.05 (Debian 12) with simulated compute nodes on this machine (root).
# Idempotent.  After it, on the machine itself or on any simulated host, any user can sbatch, srun,
# squeue, scancel, sacct ...
#
# env: NODES=4 CPUS=16 MEM=16000   what each node declares (oversubscribed)
#      DBD=1          slurmdbd + a private mariadb (sacct); 0 = without, as many small sites
#      ENFORCE=NO     EnforcePartLimits: NO (job pends) or ALL (sbatch refuses)
#      LIMITS=0       1 = limits of users and accounts hold (sacctmgr modify user ... set MaxSubmitJobs=3)
#      KILLWAIT=5 MINJOBAGE=300
#      CGROUP=auto    memory limits by cgroup v1 (real OUT_OF_MEMORY): auto, 1, 0
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}
RUN=$TB/run
S=$RUN/slurm
N=${NODES:-4} CPUS=${CPUS:-16} MEM=${MEM:-16000} DBD=${DBD:-1} ENFORCE=${ENFORCE:-NO}
LIMITS=${LIMITS:-0} KILLWAIT=${KILLWAIT:-5} MINJOBAGE=${MINJOBAGE:-300} CGROUP=${CGROUP:-auto}
say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
[ "$(id -u)" = 0 ] || { echo "slurm-up.sh: must be root" >&2; exit 1; }
mkdir -p "$TB"

# ---- packages ------------------------------------------------------------------------------------
# shellcheck source=testbeds/packages.sh
. "$HERE/packages.sh"
want=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libpmix2 procps)
want+=(bindfs btrfs-progs xfsprogs strace) # tests/site/test_storage.py
[ "$DBD" = 1 ] && want+=(slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core)
have_packages "${want[@]}"
say "packages there"

# Slurm's mpi/pmix plugin opens pmix2/lib/libpmix.so; Debian ships that name only in libpmix-dev
for L in /usr/lib/*-linux-gnu/pmix2/lib; do
    [ -e "$L/libpmix.so" ] || ln -s libpmix.so.2 "$L/libpmix.so"
done

NODES=$N "$HERE/nodes-up.sh"
mkdir -p "$S"/{state,spool,log,pid}
chmod 755 "$S"
chown -R slurm:slurm "$S"/{state,log,pid}
chmod 777 "$S/pid" # mariadbd and slurmctld are different users
up() { # NAME: does the process that its pid file names still run?
    local p
    p=$(cat "$S/pid/$1.pid" 2>/dev/null) && grep -q "$1" "/proc/$p/cmdline" 2>/dev/null
}

# ---- munge: one daemon; its socket is a file, so every host reaches it ---------------------------
if ! munge -n </dev/null >/dev/null 2>&1; then
    install -d -o munge -g munge -m 755 /run/munge
    install -d -o munge -g munge -m 700 /var/log/munge /var/lib/munge
    if [ ! -s /etc/munge/munge.key ]; then
        (umask 077; dd if=/dev/urandom of=/etc/munge/munge.key bs=128 count=1 status=none)
        chown munge:munge /etc/munge/munge.key
        chmod 400 /etc/munge/munge.key
    fi
    setpriv --reuid=munge --regid=munge --init-groups /usr/sbin/munged --force
    for _ in $(seq 50); do munge -n </dev/null >/dev/null 2>&1 && break; sleep 0.1; done
    cp /run/munge/munged.pid "$S/pid/munged.pid"
fi
say "munge up"

# ---- configuration -------------------------------------------------------------------------------
ME=$(hostname -s)
last=$(printf %02d "$N")
lastip=$((10 + N))
cgroup_v1() { [ "$(stat -f -c %T "/sys/fs/cgroup/$1" 2>/dev/null)" = cgroupfs ]; }
if [ "$CGROUP" = auto ]; then
    if cgroup_v1 memory && cgroup_v1 freezer; then CGROUP=1; else CGROUP=0; fi
fi
if [ "$CGROUP" = 1 ]; then TASK=task/cgroup; else TASK=task/none; fi
{
cat <<EOC
ClusterName=testbed
SlurmctldHost=$ME(10.77.0.1)
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=cred_expire=30
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=$TASK
ReturnToService=2
SlurmctldPort=6817
SlurmdPort=6818
SlurmctldPidFile=$S/pid/slurmctld.pid
SlurmdPidFile=$S/spool/%n.pid
SlurmdSpoolDir=$S/spool/%n
StateSaveLocation=$S/state
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd-%n.log
SwitchType=switch/none
MailProg=/bin/true
SlurmdParameters=config_overrides
LaunchParameters=use_interactive_step
SlurmctldParameters=preempt_send_user_signal
# short timers, for tests; AuthInfo above: so long a requeued job waits
SlurmctldTimeout=30
SlurmdTimeout=20
InactiveLimit=0
KillWait=$KILLWAIT
MinJobAge=$MINJOBAGE
CompleteWait=0
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,bf_continue,batch_sched_delay=0,requeue_setup_env_fail
EnforcePartLimits=$ENFORCE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobCompType=jobcomp/none
NodeName=node[01-$last] NodeAddr=10.77.0.[11-$lastip] CPUs=$CPUS RealMemory=$MEM TmpDisk=1000 Gres=gpu:2 Feature=ib State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 MaxTime=1-00:00:00 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=short Nodes=ALL DefaultTime=1 MaxTime=5 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=spot Nodes=ALL DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=5 State=UP
PartitionName=spotkill Nodes=ALL DefaultTime=10 PriorityTier=1 PreemptMode=CANCEL GraceTime=5 State=UP
PartitionName=urgent Nodes=ALL DefaultTime=10 PriorityTier=100 PreemptMode=OFF State=UP
PartitionName=bobonly Nodes=node01 AllowGroups=bob DefaultTime=10 State=UP
PartitionName=closed Nodes=node01 DefaultTime=10 State=DOWN
EOC
if [ "$DBD" = 1 ]; then
cat <<EOC
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=10.77.0.1
AccountingStoragePort=6819
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment,job_env,job_script
EOC
else
    echo "AccountingStorageType=accounting_storage/none"
fi
[ "$LIMITS" = 0 ] || echo "AccountingStorageEnforce=limits" # read when slurmctld starts
} >"$S/slurm.conf.new"
for g in 0 1; do # two GPUs that are /dev/null
    [ -c "$S/fakegpu$g" ] && continue
    rm -f "$S/fakegpu$g"
    mknod -m 666 "$S/fakegpu$g" c 1 3
done
echo "PMIxCliTmpDirBase=/dev/shm" >"$S/mpi.conf"          # /tmp is shared by the hosts, /dev/shm is not
echo "Name=gpu File=$S/fakegpu[0-1]" >"$S/gres.conf"
cat >"$S/cgroup.conf" <<EOC
CgroupAutomount=no
CgroupPlugin=cgroup/v1
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
EOC
chmod 644 "$S"/*.conf*
mv "$S/slurm.conf.new" "$S/slurm.conf"
mkdir -p /etc/slurm
for f in slurm gres cgroup mpi; do ln -sfn "$S/$f.conf" "/etc/slurm/$f.conf"; done

# ---- accounting ----------------------------------------------------------------------------------
if [ "$DBD" = 1 ]; then
    M=$S/mysql
    if ! up mariadbd; then
        if [ ! -d "$M/data/mysql" ]; then
            mkdir -p "$M/data"
            id mysql >/dev/null 2>&1 || useradd -r -s /usr/sbin/nologin mysql
            chown -R mysql:mysql "$M"
            mariadb-install-db --no-defaults --user=mysql --datadir="$M/data" --skip-test-db --auth-root-authentication-method=socket >"$S/log/mysql-install.log" 2>&1
        fi
        rm -f "$S/pid/mariadbd.pid" "$M/sock" # a machine that was killed leaves them, and not as ours
        setsid -f /usr/sbin/mariadbd --no-defaults --user=mysql --datadir="$M/data" --socket="$M/sock" --skip-networking \
            --pid-file="$S/pid/mariadbd.pid" --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 \
            --innodb-lock-wait-timeout=900 </dev/null >"$S/log/mariadbd.log" 2>&1
        for _ in $(seq 300); do mariadb --no-defaults -S "$M/sock" -e 'select 1' >/dev/null 2>&1 && break; sleep 0.1; done
        mariadb --no-defaults -S "$M/sock" -e "
            create database if not exists slurm_acct_db;
            create user if not exists slurm@localhost identified by 'slurm';
            grant all on slurm_acct_db.* to slurm@localhost;"
    fi
    say "mariadb up"
    cat >"$S/slurmdbd.conf" <<EOC
AuthType=auth/munge
DbdHost=localhost
DbdAddr=10.77.0.1
DbdPort=6819
SlurmUser=slurm
LogFile=$S/log/slurmdbd.log
PidFile=$S/pid/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
EOC
    chown slurm:slurm "$S/slurmdbd.conf"
    chmod 600 "$S/slurmdbd.conf"
    ln -sfn "$S/slurmdbd.conf" /etc/slurm/slurmdbd.conf
    if ! up slurmdbd; then
        MYSQL_UNIX_PORT=$M/sock /usr/sbin/slurmdbd
        for _ in $(seq 300); do sacctmgr -n show cluster >/dev/null 2>&1 && break; sleep 0.1; done
    fi
    sacctmgr -n show cluster format=cluster 2>/dev/null | grep -q testbed || sacctmgr -i add cluster testbed >/dev/null
    if ! sacctmgr -nP show assoc user=alice format=user 2>/dev/null | grep -q alice; then
        sacctmgr -i add account lab Description=lab Organization=lab cluster=testbed >/dev/null || true
        sacctmgr -i add user alice,bob account=lab cluster=testbed >/dev/null || true
    fi
    say "slurmdbd up"
fi

# ---- controller and nodes ------------------------------------------------------------------------
if up slurmctld; then
    scontrol reconfigure
else
    setsid -f /usr/sbin/slurmctld -i </dev/null >"$S/log/slurmctld.out" 2>&1
fi
for i in $(seq 1 "$N"); do
    h=$(printf 'node%02d' "$i")
    mkdir -p "$S/spool/$h"
    "$TB/on-host" "$h" bash -c '[ -e "$1" ] && grep -q slurmd "/proc/$(cat "$1")/cmdline" 2>/dev/null' bash "$S/spool/$h.pid" && continue
    "$TB/on-host" "$h" setsid -f /usr/sbin/slurmd -N "$h" </dev/null >"$S/log/slurmd-$h.out" 2>&1 ||
        { cat "$S/log/slurmd-$h.out"; exit 1; }
done
nodes_up() { sinfo -h -p main -t idle,mix,alloc -N -o %N 2>/dev/null | sort -u | grep -c .; }
ok=
for _ in $(seq 300); do
    [ "$(nodes_up)" = "$N" ] && { ok=1; break; }
    sleep 0.1
done
if [ -z "$ok" ]; then
    echo "nodes are not up:" >&2
    sinfo -R >&2
    sinfo -N -l >&2
    tail -n 5 "$S"/log/*.log >&2
    exit 1
fi
say "slurm up: $(sinfo -h -p main -o '%D nodes %t')"
