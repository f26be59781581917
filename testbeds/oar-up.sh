#!/bin/bash
# oar-up.sh -- OAR 2.5.9 (Debian 12) with simulated nodes and a private PostgreSQL on this machine
# (root).  Idempotent.  After it, on the machine itself or on any simulated host, any user can oarsub,
# oarstat, oardel ...
#
# env: NODES=4 CORES=16 MEM=16000   nodes, cores of each, MB of each (a property; declared, not real)
#      GRACE=5     seconds from the kill to the harder kill (JOBDEL_SOFTWALLTIME)
#      CGROUP=auto MEMPERCORE=1000
#                  jobs in cgroups (v1), with so many MB for each core, as sites do: auto, 1, 0
#      OARPG=5433  PostgreSQL's port (on the simulated network and the loopback)
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}
RUN=$TB/run
O=$RUN/oar
N=${NODES:-4} CORES=${CORES:-16} MEM=${MEM:-16000} GRACE=${GRACE:-5} OARPG=${OARPG:-5433}
CGROUP=${CGROUP:-auto} MEMPERCORE=${MEMPERCORE:-1000}
say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
[ "$(id -u)" = 0 ] || { echo "oar-up.sh: must be root" >&2; exit 1; }
mkdir -p "$TB"

# ---- packages ------------------------------------------------------------------------------------
# shellcheck source=testbeds/packages.sh
. "$HERE/packages.sh"
# libjson-perl: for oarstat -J, which no package asks for
have_packages oar-server oar-server-pgsql oar-user oar-user-pgsql oar-node openssh-server openssh-client \
    postgresql libjson-perl procps
say "packages there"

NODES=$N "$HERE/nodes-up.sh"
mkdir -p "$O"/{log,pid} /run/sshd
chmod 755 "$O"
up() { # NAME PIDFILE: does the process that the file names still run?
    local p
    p=$(head -n 1 "$2" 2>/dev/null) && [ -n "$p" ] && grep -q "$1" "/proc/$p/cmdline" 2>/dev/null
}

# ---- PostgreSQL ----------------------------------------------------------------------------------
for PGBIN in /usr/lib/postgresql/*/bin; do :; done # the last one
as_postgres() { (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$@"); }
sql() { psql -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$OARPG" -U postgres "$@"; }
D=$O/pg
if [ ! -e "$D/made" ]; then
    rm -rf "$D"
    install -d -o postgres -g postgres -m 700 "$D"
    as_postgres "$PGBIN/initdb" -D "$D" -A trust -U postgres -E UTF8 --locale=C >"$O/log/initdb" 2>&1 ||
        { cat "$O/log/initdb" >&2; exit 1; }
    cat >>"$D/postgresql.conf" <<EOC
port = $OARPG
listen_addresses = 'localhost,10.77.0.1'
unix_socket_directories = ''
fsync = off
EOC
    printf 'host all all 127.0.0.1/32 trust\nhost all all 10.77.0.0/24 md5\n' >"$D/pg_hba.conf"
    touch "$D/made"
fi
if ! up postgres "$D/postmaster.pid"; then
    rm -f "$D/postmaster.pid" # a machine that was killed leaves it, and its number may be another's now
    as_postgres "$PGBIN/pg_ctl" -s -w -D "$D" -l "$D/log" start || { tail -n 5 "$D/log" >&2; exit 1; }
fi
say "postgresql up"

# ---- configuration: one marked block, later lines win --------------------------------------------
if [ "$CGROUP" = auto ]; then
    CGROUP=1
    for c in cpuset cpu cpuacct devices freezer memory; do
        [ "$(stat -f -c %T "/sys/fs/cgroup/$c" 2>/dev/null)" = cgroupfs ] || CGROUP=0
    done
fi
# Debian's own manager of a job's cgroups, but: memory is limited, by what we declare and not by what the
# machine has; any core will do, as ours are declared, not there; the user's files in /tmp and /var/tmp stay,
# as the nodes share them and other jobs, and not only OAR's, may use them.
sed -E '
    s/^(my \$Enable_mem_cg = )"NO"/\1"YES"/
    s/^(my \$Cpuset_cg_mem_nodes = )"cpu"/\1"all"/
    s/^(my @Tmp_dir_to_clear = ).*/\1();/
    s/^( +my \$mem_kb = ).*/\1@Cpuset_cpus * '"$MEMPERCORE"' * 1048576;/
    s/^( +my \$job_cpuset_cpus_cmd = ).*/\1"cat $Cgroup_directory_collection_links\/cpuset\/cpuset.cpus > $Cgroup_directory_collection_links\/cpuset\/$Cpuset_path_job\/cpuset.cpus";/
    ' /etc/oar/job_resource_manager_cgroups.pl >"$O/job_resource_manager.pl"
{
    sed -E '/^# BEGIN testbeds$/,/^# END testbeds$/d; s/^(JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD|CPUSET_PATH)=/#\1=/' /etc/oar/oar.conf
    cat <<EOC
# BEGIN testbeds
DB_TYPE="Pg"
DB_HOSTNAME="10.77.0.1"
DB_PORT="$OARPG"
DB_BASE_NAME="oar"
DB_BASE_LOGIN="oar"
DB_BASE_PASSWD="oar"
DB_BASE_LOGIN_RO="oar_ro"
DB_BASE_PASSWD_RO="oar_ro"
SERVER_HOSTNAME="head"
OARSUB_DEFAULT_RESOURCES="/resource_id=1"
WALLTIME_CHANGE_ENABLED="YES"
WALLTIME_MAX_INCREASE="3600"
LOG_LEVEL="2"
# short timers, for tests
JOBDEL_SOFTWALLTIME="$GRACE"
JOBDEL_WALLTIME="$((GRACE * 2))"
SCHEDULER_JOB_SECURITY_TIME="1"
SCHEDULER_MIN_TIME_BETWEEN_2_CALLS="0"
FINAUD_FREQUENCY="30"
CHECK_NODES_WITH_RUNNING_JOB="yes"
PINGCHECKER_SENTINELLE_SCRIPT_COMMAND="/usr/lib/oar/sentinelle.pl -t 30 -w 20"
EOC
    if [ "$CGROUP" = 1 ]; then
        cat <<EOC
JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD="cpuset"
JOB_RESOURCE_MANAGER_FILE="$O/job_resource_manager.pl"
CPUSET_PATH="/oar"
EOC
    fi
    echo "# END testbeds"
} >"$O/oar.conf"
cmp -s "$O/oar.conf" /etc/oar/oar.conf || install -o oar -g root -m 600 "$O/oar.conf" /etc/oar/oar.conf

# ---- database ------------------------------------------------------------------------------------
if [ -z "$(sql -c "select 1 from pg_database where datname = 'oar'")" ]; then
    oar-database --create -y --db-type Pg --db-host 127.0.0.1 --db-port "$OARPG" --db-admin-user postgres --db-admin-pass x \
        --db-user oar --db-pass oar --db-ro-user oar_ro --db-ro-pass oar_ro --db-name oar >"$O/log/database" 2>&1 ||
        { cat "$O/log/database" >&2; exit 1; }
fi
say "database ready"

# ---- the nodes' sshd, by which OAR reaches them --------------------------------------------------
away=() # nodes that were not there: what OAR believes to run on them has died
for i in $(seq 1 "$N"); do
    h=$(printf 'node%02d' "$i")
    pidfile=$O/pid/sshd-$h.pid # a process id on that host
    "$TB/on-host" "$h" bash -c '[ -e "$1" ] && grep -q sshd "/proc/$(cat "$1")/cmdline" 2>/dev/null' bash "$pidfile" && continue
    away+=("$h")
    rm -f "$pidfile"
    "$TB/on-host" "$h" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/sshd -f /etc/oar/sshd_config -o PidFile="$pidfile" \
        -o ListenAddress="$h" >"$O/log/sshd-$h" 2>&1 || { cat "$O/log/sshd-$h" >&2; exit 1; }
done

# ---- resources: hosts of cores -------------------------------------------------------------------
oarproperty -c -a host >/dev/null 2>&1 || true # fails where it is known already
for p in cpu core mem; do oarproperty -a "$p" >/dev/null 2>&1 || true; done
# straight into the tables, as oarnodesetting takes 0.3 s for each core
sql -d oar -c "
    with new as (
        insert into resources (network_address, host, cpu, core, cpuset, mem, state, next_state)
            select n, n, i, (i - 1) * $CORES + c, (c - 1)::varchar, $MEM, 'Alive', 'UnChanged'
            from (select 'node' || lpad(i::varchar, 2, '0') n, i from generate_series(1, $N) i) h, generate_series(1, $CORES) c
            where n not in (select network_address from resources)
            order by 3, 4
        returning resource_id)
    insert into resource_logs (resource_id, attribute, value, date_start)
        select resource_id, 'state', 'Alive', extract(epoch from now())::int from new"

# ---- server --------------------------------------------------------------------------------------
fresh=
if ! up Almighty "$O/pid/almighty.pid"; then
    fresh=1
    touch /var/log/oar.log
    chown oar /var/log/oar.log
    # Its look at walltimes every 10 s has no setting: ours looks every 2 s.  Debian's
    # /usr/sbin/Almighty would only set this environment and start the original.
    sed -E 's/^(my \$(villainstimeout|read_commands_timeout) = )10;/\12;/' /usr/lib/oar/Almighty >"$O/Almighty"
    chmod 755 "$O/Almighty"
    environment=(
        PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/lib/oar/oardodo HOME=/var/lib/oar SHELL=/bin/bash USER=oar LOGNAME=oar
        OARUSER=oar OARDO_USER=oar OARDO_UID="$(id -u oar)" OARDIR=/usr/lib/oar OARCONFFILE=/etc/oar/oar.conf
        OARXAUTHLOCATION=/usr/bin/xauth
    )
    (
        cd /
        # shellcheck disable=SC2016 # for the shell that becomes the server
        exec setsid -f bash -c 'echo $$ >"$1"; shift; exec "$@"' bash "$O/pid/almighty.pid" \
            env -i "${environment[@]}" setpriv --reuid=oar --regid=oar --init-groups "$O/Almighty"
    ) </dev/null >"$O/log/almighty.out" 2>&1
fi
listens() { (exec 3<>/dev/tcp/10.77.0.1/6666) 2>/dev/null; }
for _ in $(seq 300); do listens && break; sleep 0.1; done
listens || { echo "the server does not listen:" >&2; tail "$O/log/almighty.out" /var/log/oar.log >&2; exit 1; }
# a deletion asked for while it was down would wait until some job ends
if [ -n "$fresh" ]; then echo Qdel >/dev/tcp/10.77.0.1/6666; fi
say "server up${fresh:+, started}"

# jobs on a node that was away have died, but OAR believes in them until their walltime, unless an
# administrator declares the node Dead: 13 s
ours="network_address <= 'node$(printf %02d "$N")'"
settled() { [ "$(sql -d oar -c "select count(*) from resources where next_state <> 'UnChanged'")" = 0 ]; }
busy=$(sql -d oar -c "select distinct network_address from assigned_resources join resources using (resource_id)
    where assigned_resource_index = 'CURRENT'")
for h in "${away[@]}"; do
    grep -qx "$h" <<<"$busy" || continue
    oarnodesetting -h "$h" -s Dead </dev/null >"$O/log/dead-$h" 2>&1 &
done
wait
for _ in $(seq 100); do settled && break; sleep 0.1; done
for h in $(sql -d oar -c "select distinct network_address from resources where state <> 'Alive' and $ours"); do
    oarnodesetting -h "$h" -s Alive </dev/null >/dev/null
done
alive() { sql -d oar -c "select count(*) from resources where state = 'Alive' and next_state = 'UnChanged' and $ours"; }
ok=
for _ in $(seq 300); do
    [ "$(alive)" = $((N * CORES)) ] && { ok=1; break; }
    sleep 0.1
done
if [ -z "$ok" ]; then
    echo "nodes are not up:" >&2
    oarnodes -s | grep -v Alive >&2
    tail -n 5 "$O"/log/sshd-* /var/log/oar.log >&2
    exit 1
fi
say "oar up: $N nodes of $CORES cores"
