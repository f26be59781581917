#!/bin/bash
# condor-up.sh -- HTCondor 23.9 with simulated hosts on this machine (root, Debian 12).
# Idempotent.  After it, on the machine itself or on any simulated host, any user can condor_submit,
# condor_q, condor_rm, condor_history ...
#
# Debian 12 has no HTCondor.  Debian 13's package and the libraries that it needs, its C library too,
# are unpacked in TESTBED_DIR/condor, and its programs are told to look there: they run on Debian 12,
# and so do the jobs, which see nothing of it.  The machine's own packages stay as they are.
#
#   login   condor_master: collector, negotiator, schedd
#   nodeNN  condor_master: startd with one slot that jobs share
#
# env: NODES=4 CPUS=16 MEM=16000   what each node declares (oversubscribed)
#      CGROUP=auto    memory limits by cgroup: auto, 1; 0 = HTCondor looks every few seconds, and holds
#      KILLWAIT=5     seconds between the polite and the other signal
#      LEASE=120      seconds for which a job waits for its schedd, and the schedd for a lost node
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "$0")" && pwd)
TB=${TESTBED_DIR:-/var/tmp/testbeds}
RUN=$TB/run
TREE=$TB/condor
C=$RUN/condor
N=${NODES:-4} CPUS=${CPUS:-16} MEM=${MEM:-16000} CGROUP=${CGROUP:-auto} KILLWAIT=${KILLWAIT:-5} LEASE=${LEASE:-120}
say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
[ "$(id -u)" = 0 ] || { echo "condor-up.sh: must be root" >&2; exit 1; }
mkdir -p "$TB"

# ---- HTCondor: Debian 13's, unpacked ---------------------------------------------------------------
# shellcheck source=testbeds/packages.sh
. "$HERE/packages.sh"
have_packages patchelf debian-archive-keyring procps

unpack() { # FOLDER: HTCondor and its libraries there, to be moved to $TREE
    local new=$1 mirror try packages file loader
    local apt=(-o "Dir::State=$new.apt" -o "Dir::State::status=$new.apt/none" -o "Dir::Cache=$new.apt"
        -o "Dir::Etc::sourcelist=$new.apt/sources" -o "Dir::Etc::sourceparts=$new.apt/parts"
        -o "Dir::Etc::preferences=$new.apt/none" -o "Dir::Etc::preferencesparts=$new.apt/parts"
        -o APT::Install-Recommends=false -o APT::Sandbox::User=root)
    rm -rf "$new" "$new.apt"
    mkdir -p "$new" "$new.apt"/{lists/partial,archives/partial,parts}
    : >"$new.apt/none"
    # the mirror from which this machine has Debian 12
    # shellcheck disable=SC2016  # apt's variables
    mirror=$(apt-get indextargets --format '$(CODENAME) $(LABEL) $(REPO_URI)' 2>/dev/null |
        awk '$1 == "bookworm" && $2 == "Debian" { print $3; exit }')
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} trixie main" \
        >"$new.apt/sources"
    for try in 1 2 3 4 5 no; do
        [ "$try" != no ] || return 1
        [ "$try" = 1 ] || sleep $((5 * try))
        apt-get "${apt[@]}" update -q || continue
        # what a machine without any package would get for it, less what its programs do not load
        apt-get "${apt[@]}" -s install condor >"$new.apt/plan" || continue
        mapfile -t packages < <(awk '$1 == "Inst" { print $2 }' "$new.apt/plan" |
            grep -E '^(condor$|zlib1g$|lib)' | grep -Ev '^lib(boost-python|date-manip|debconf|js-|pam|perl|python)')
        (cd "$new.apt/archives" && apt-get "${apt[@]}" download -q "${packages[@]}") && break
    done
    for file in "$new.apt"/archives/*.deb; do dpkg -x "$file" "$new" || return 1; done
    rm -rf "$new.apt" "${new:?}"/usr/{share,lib/python3}
    loader=$(cd "$new" && echo usr/lib/*-linux-gnu/ld-linux-*.so.*)
    for file in "$new"/usr/{bin,sbin,libexec/condor}/*; do
        if [ -L "$file" ] || ! patchelf --print-interpreter "$file" >/dev/null 2>&1; then continue; fi
        # RPATH: unlike RUNPATH it serves the libraries' own libraries, and unlike LD_LIBRARY_PATH it stays here
        patchelf --set-interpreter "$TREE/$loader" --force-rpath \
            --set-rpath "$TREE/usr/lib:$TREE/${loader%/*}" "$file" || return 1
    done
}
if ! "$TREE/usr/bin/condor_version" >/dev/null 2>&1; then
    echo "unpacking HTCondor in $TREE"
    if ! unpack "$TREE.new" >"$TREE.log" 2>&1; then
        tail -20 "$TREE.log" >&2
        echo "could not unpack HTCondor: a Debian mirror with trixie is needed" >&2
        exit 1
    fi
    rm -rf "$TREE"
    mv "$TREE.new" "$TREE"
    "$TREE/usr/bin/condor_version" >/dev/null
    rm -f "$TREE.log"
fi
say "packages there"

NODES=$N "$HERE/nodes-up.sh"
id -u condor >/dev/null 2>&1 || useradd -r -d "$C" -s /usr/sbin/nologin condor
mkdir -p "$C"/{log,fs}
chmod 755 "$C"
chmod 1777 "$C/fs"
hosts=(login)
for i in $(seq 1 "$N"); do hosts+=("$(printf 'node%02d' "$i")"); done
for h in "${hosts[@]}"; do
    install -d -o condor -g condor -m 755 "$C/log/$h" "$C/$h" "$C/$h"/{spool,lock,execute}
done

# ---- configuration ---------------------------------------------------------------------------------
cgroup_v1() { [ "$(stat -f -c %T "/sys/fs/cgroup/$1" 2>/dev/null)" = cgroupfs ]; }
BASE=htcondor WRAPPER=
if [ "$CGROUP" = 0 ]; then
    BASE=
elif cgroup_v1 memory; then
    WRAPPER=$C/in-cgroup
    # HTCondor moves a job to its cgroup (v1) when it runs already: what it started by then would stay outside
    cat >"$WRAPPER.new" <<'EOI'
#!/bin/bash
for _ in {1..200}; do
    [[ $(</proc/$$/cgroup) == */htcondor/* ]] && break
    sleep 0.01
done
exec "$@"
EOI
    chmod 755 "$WRAPPER.new"
    mv "$WRAPPER.new" "$WRAPPER"
fi
cat >"$C/condor_config.new" <<EOC
RELEASE_DIR = $TREE/usr
LIBEXEC = \$(RELEASE_DIR)/libexec/condor
LOCAL_DIR = $C/\$(HOSTNAME)
LOG = $C/log/\$(HOSTNAME)
LOCK = \$(LOCAL_DIR)/lock
RUN = \$(LOCAL_DIR)/lock
SPOOL = $C/login/spool
EXECUTE = \$(LOCAL_DIR)/execute
CRED_STORE_DIR = \$(LOCAL_DIR)/cred
LOCAL_CONFIG_FILE = $C/condor_config.role.\$(HOSTNAME)
REQUIRE_LOCAL_CONFIG_FILE = False
LOCAL_CONFIG_DIR =
USER_CONFIG_FILE =

CONDOR_HOST = login
COLLECTOR_HOST = login
COLLECTOR_NAME = testbed
NETWORK_INTERFACE = 10.77.0.*
MOUNT_UNDER_SCRATCH =
USE_SHARED_PORT = False
ENABLE_KERNEL_TUNING = False
MAIL = /bin/true
SENDMAIL = /bin/true
SCHEDD_RESTART_REPORT =
SCHEDD_ADDRESS_FILE = $C/login/schedd_address
SCHEDD_DAEMON_AD_FILE = $C/login/schedd_ad

# the hosts share their files and their users
UID_DOMAIN = testbed
FILESYSTEM_DOMAIN = testbed
TRUST_UID_DOMAIN = True
STARTER_ALLOW_RUNAS_OWNER = True
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_CLIENT_AUTHENTICATION_METHODS = FS
FS_LOCAL_DIR = $C/fs
ALLOW_READ = *
ALLOW_WRITE = *@testbed
ALLOW_DAEMON = root@testbed condor@testbed
ALLOW_NEGOTIATOR = root@testbed condor@testbed
ALLOW_ADMINISTRATOR = root@testbed condor@testbed
ALLOW_CONFIG =
ALLOW_ADVERTISE_STARTD = \$(ALLOW_DAEMON)
ALLOW_ADVERTISE_SCHEDD = \$(ALLOW_DAEMON)
ALLOW_ADVERTISE_MASTER = \$(ALLOW_DAEMON)

# what a node declares
NUM_CPUS = $CPUS
MEMORY = $MEM
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
START = True
SUSPEND = False
PREEMPT = False
KILL = False
RANK = 0
RUNBENCHMARKS = False
SINGULARITY =
DOCKER =

# memory: by cgroup (hold code 34) where there is one; else, seconds later, by what was measured (code 26)
BASE_CGROUP = $BASE
USER_JOB_WRAPPER = $WRAPPER
CGROUP_MEMORY_LIMIT_POLICY = hard
SYSTEM_PERIODIC_HOLD_NAMES = Memory
SYSTEM_PERIODIC_HOLD_Memory = JobStatus == 2 && MemoryUsage =!= undefined && MemoryUsage > MemoryProvisioned
SYSTEM_PERIODIC_HOLD_Memory_REASON = strcat("memory usage of ", MemoryUsage, " MB is over the ", MemoryProvisioned, " MB provisioned")
SYSTEM_PERIODIC_HOLD_Memory_SUBCODE = 34

# accounts
SUBMIT_REQUIREMENT_NAMES = Account
SUBMIT_REQUIREMENT_Account = AcctGroup =?= undefined || stringListIMember(AcctGroup, "lab,other")
SUBMIT_REQUIREMENT_Account_REASON = strcat("accounting group ", AcctGroup, " is not known: use lab or other")

# short timers, for tests
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_PRE_JOB_RANK = 0
PREEMPTION_REQUIREMENTS = False
SCHEDD_INTERVAL = 5
SCHEDD_MIN_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 3
MAX_PERIODIC_EXPR_INTERVAL = 10
UPDATE_INTERVAL = 5
COLLECTOR_UPDATE_INTERVAL = 10
MASTER_UPDATE_INTERVAL = 20
CLASSAD_LIFETIME = 30
POLLING_INTERVAL = 2
STARTER_INITIAL_UPDATE_INTERVAL = 2
STARTER_UPDATE_INTERVAL = 3
SHADOW_QUEUE_UPDATE_INTERVAL = 3
PROCD_MAX_SNAPSHOT_INTERVAL = 3
JOB_DEFAULT_LEASE_DURATION = $LEASE
SHADOW_LAZY_QUEUE_UPDATE = False
MACHINEMAXVACATETIME = $KILLWAIT
MACHINE_MAX_VACATE_TIME = $KILLWAIT
KILLING_TIMEOUT = $((KILLWAIT + 2))
MASTER_BACKOFF_CEILING = 10
SHUTDOWN_FAST_TIMEOUT = 10
EOC
echo "DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD" >"$C/condor_config.role.login"
for h in "${hosts[@]:1}"; do
    echo "DAEMON_LIST = MASTER STARTD" >"$C/condor_config.role.$h"
done
mv "$C/condor_config.new" "$C/condor_config"
mkdir -p /etc/condor
ln -sfn "$C/condor_config" /etc/condor/condor_config
for command in "$TREE"/usr/bin/condor_*; do
    # the scripts among them would need Debian 13's Python and Perl
    if [ "$(head -c 2 "$command")" != '#!' ]; then ln -sfn "$command" "/usr/local/bin/${command##*/}"; fi
done

# ---- daemons ---------------------------------------------------------------------------------------
cat >"$C/control.new" <<'EOI'
#!/bin/bash
# runs on a host: control start|stop HOST STATE TREE
h=$2 C=$3 TREE=$4
master=$(cat "$C/$h/master.pid" 2>/dev/null)
running() { [ -n "$master" ] && grep -qa condor_master "/proc/$master/cmdline" 2>/dev/null; }
clean() { # end the daemons and jobs that have no master any more
    local d
    for d in /proc/[0-9]*; do
        case $(readlink "$d/exe") in
        "$TREE"/usr/sbin/* | "$TREE"/usr/libexec/*) kill -KILL "${d#/proc/}" ;;
        esac
        if tr '\0' '\n' <"$d/environ" | grep -q '^_CONDOR_SLOT='; then kill -KILL "${d#/proc/}"; fi
    done 2>/dev/null
    rm -f "$C/$h/master.pid"
}
v1() { [ "$(stat -f -c %T "/sys/fs/cgroup/$1" 2>/dev/null)" = cgroupfs ]; }
case $1 in
start)
    if running; then kill -HUP "$master"; exit; fi # read the configuration again
    clean
    # HTCondor knows the cgroups (v1) by the names that systemd gives them: here, not for the whole machine
    if v1 memory && v1 freezer && v1 devices && v1 cpuacct && ! v1 cpu,cpuacct; then
        new=$C/$h/cgroup
        mkdir -p "$new"
        mount -t tmpfs -o mode=755 tmpfs "$new"
        mkdir "$new"/{memory,freezer,devices,cpu,cpuacct} "$new/cpu,cpuacct"
        for c in memory freezer devices cpu,cpuacct; do mount --bind "/sys/fs/cgroup/${c#cpu,}" "$new/$c"; done
        mount --move "$new" /sys/fs/cgroup
    fi
    touch "$C/$h/started"
    exec "$TREE/usr/sbin/condor_master" -pidfile "$C/$h/master.pid"
    ;;
stop)
    if running; then
        kill -QUIT "$master" # "fast": jobs end on a node, and outlive their schedd
        for _ in $(seq 150); do running || break; sleep 0.1; done
    fi
    clean
    ;;
esac
EOI
chmod 755 "$C/control.new"
mv "$C/control.new" "$C/control"
for h in "${hosts[@]}"; do
    "$TB/on-host" "$h" unshare --mount "$C/control" start "$h" "$C" "$TREE" </dev/null >"$C/log/$h/start" 2>&1 ||
        { cat "$C/log/$h/start" >&2; exit 1; }
done

# A daemon that died is known to the collector for a while: only what was announced since its start counts.
started() { # SUBSYSTEM HOST
    condor_status "-$1" -constraint "Machine == \"$2\" && DaemonStartTime >= $(stat -c %Y "$C/$2/started") - 1" -af Name 2>/dev/null |
        grep -q .
}
all_up() {
    local h
    started negotiator login && started schedd login && condor_q -totals >/dev/null 2>&1 || return 1
    for h in "${hosts[@]:1}"; do started startd "$h" || return 1; done
}
ok=
for _ in $(seq 200); do
    if all_up; then ok=1; break; fi
    sleep 0.1
done
if [ -z "$ok" ]; then
    echo "not all of HTCondor is up:" >&2
    condor_status -any -af MyType Name >&2
    tail -n 5 "$C"/log/*/{Master,Start,Sched,Collector}Log >&2
    exit 1
fi
say "condor up: $(condor_status -constraint PartitionableSlot -af Name | grep -c .) nodes"
