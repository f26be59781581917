#!/bin/bash
# oar-down.sh [--server] [--database] | [--wipe] [--hosts]   (root)
#   deletes all jobs, stops the server (Almighty), the nodes' sshd and PostgreSQL that oar-up.sh started
#   --server    stops the server alone: jobs run on.  oar-up.sh starts it again
#   --database  stops PostgreSQL alone: every command fails or hangs.  oar-up.sh starts it again
#   --wipe      also deletes the database and the log (job ids start at 1 again)
#   --hosts     also takes the simulated hosts down
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}
O=$TB/run/oar
OARPG=${OARPG:-5433}
part='' wipe='' hosts=''
for a in "$@"; do
    case $a in
    --server | --database) part+=$a ;;
    --wipe) wipe=1 ;;
    --hosts) hosts=1 ;;
    *) echo "oar-down.sh: unknown option $a" >&2; exit 2 ;;
    esac
done
[ "$(id -u)" = 0 ] || { echo "oar-down.sh: must be root" >&2; exit 1; }

up() { # NAME PIDFILE: does the process that the file names still run?
    local p
    p=$(head -n 1 "$2" 2>/dev/null) && [ -n "$p" ] && grep -q "$1" "/proc/$p/cmdline" 2>/dev/null
}
stop_server() { # Almighty, and with its session what it has started
    local p
    if up Almighty "$O/pid/almighty.pid"; then
        p=$(cat "$O/pid/almighty.pid")
        kill -TERM "$p"
        for _ in $(seq 50); do [ -d "/proc/$p" ] || break; sleep 0.1; done
        pkill -KILL -s "$p"
    fi
    rm -f "$O/pid/almighty.pid"
}
stop_database() {
    local p
    up postgres "$O/pg/postmaster.pid" || return 0
    p=$(head -n 1 "$O/pg/postmaster.pid")
    kill -INT "$p" # its "fast" shutdown: sessions are ended, not waited for
    for _ in $(seq 100); do [ -d "/proc/$p" ] || return 0; sleep 0.1; done
    kill -QUIT "$p"
}

if [ -n "$part" ]; then
    case $part in *--server*) stop_server; echo "oar server down" ;; esac
    case $part in *--database*) stop_database; echo "oar database down" ;; esac
    exit 0
fi

stop_server
for f in "$TB"/run/hosts/node*.pid; do
    [ -e "$f" ] || continue
    h=$(basename "$f" .pid)
    # sshd, what runs as oar (oarexec), and what has a job's environment; all inside the host
    "$TB/on-host" "$h" bash -c '
        p=$(cat "$1" 2>/dev/null); [ -n "$p" ] && grep -q sshd "/proc/$p/cmdline" 2>/dev/null && kill "$p"
        for d in /proc/[0-9]*; do
            if [ "$(stat -c %U "$d" 2>/dev/null)" = oar ] || grep -qsz "^OAR_JOB_\?ID=" "$d/environ"; then
                kill -KILL "${d#/proc/}" 2>/dev/null
            fi
        done
        rm -f "$1"' bash "$O/pid/sshd-$h.pid"
done
# the jobs are dead; with the server gone too, only the database still believes in them
if up postgres "$O/pg/postmaster.pid"; then
    psql -X -q -h 127.0.0.1 -p "$OARPG" -U postgres -d oar >/dev/null <<'EOC'
begin;
update jobs set state = 'Error', message = 'test bed taken down', stop_time = extract(epoch from now())::int
    where state not in ('Terminated', 'Error');
update job_state_logs set date_stop = extract(epoch from now())::int where date_stop = 0;
update frag_jobs set frag_state = 'FRAGGED';
update moldable_job_descriptions set moldable_index = 'LOG';
update assigned_resources set assigned_resource_index = 'LOG';
delete from gantt_jobs_predictions where moldable_job_id <> 0;
delete from gantt_jobs_resources;
commit;
EOC
fi
stop_database
if [ -n "$hosts" ]; then "$HERE/nodes-down.sh"; fi
if [ -n "$wipe" ]; then
    rm -rf "$O" /var/log/oar.log /dev/oar_cgroups_links
    [ -L /dev/cpuset ] && rm -f /dev/cpuset # the two are where OAR expects a job's cgroups
    [ -e /etc/oar/oar.conf ] && sed -i -E '
        /^# BEGIN testbeds$/,/^# END testbeds$/d
        s/^#(JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD="cpuset"|CPUSET_PATH=)/\1/' /etc/oar/oar.conf
fi
echo "oar down"
